from ha_canal.binlog._packed_rows import PackedRows
from ha_canal.model.change import Transaction
from ha_canal.model.table import RowPlan

class RowsScan:
    at: int
    sequence: int
    offset: int
    events: int
    timestamp_s: int
    is_cut: bool
    used: int
    def __init__(self, plans: dict[bytes, RowPlan | None]) -> None: ...
    def stretch(
        self,
        buffer: bytes | bytearray,
        at: int,
        end: int,
        sequence: int,
        offset: int,
        *,
        transaction: Transaction,
        ordinal: int,
        named: dict[int, RowPlan | None],
        mariadb: bool,
        checksums: bool,
    ) -> PackedRows | None: ...
