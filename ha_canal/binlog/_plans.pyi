# For other extensions: see _plans.pxd.
from ha_canal.model.table import RowPlan

class CompiledPlan:
    names: bytes
    starts: tuple[bytes, ...]
    def __init__(self, plan: RowPlan) -> None: ...
