from ha_canal.binlog._packed import Packed
from ha_canal.binlog._rows_scan import RowsScan
from ha_canal.model.table import RowPlan

class Scan(RowsScan):
    def __init__(self, plans: dict[bytes, RowPlan | None], server_uuid: str) -> None: ...
    def run(
        self,
        buffer: bytes | bytearray,
        at: int,
        end: int,
        sequence: int,
        file: str,
        offset: int,
        *,
        mariadb: bool,
        checksums: bool,
    ) -> Packed | None: ...
