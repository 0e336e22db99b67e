"""Random entries, as hypothesis strategies: what nodes write, and what they never would."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from hypothesis import strategies as st

from ha_canal.protos import entry_pb2 as pb
from ha_canal.protos.canal_pb2 import Messages, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_DIGITS = st.integers(-(2**70), 2**70).map(str)
_FRACTION = st.sampled_from(["", ".5", ".12", ".000001", ".999999", ".1234567", ".", ".x"])
_PAIR = st.tuples(st.integers(-1, 70), st.integers(-1, 70))
_DATE = st.builds(
    "{:04}-{:02}-{:02}".format, st.sampled_from([0, 1, 1900, 2000, 2023, 2024, 9999]), st.integers(0, 13),
    st.integers(0, 32),
)  # fmt: skip
_CLOCK = st.builds("{:02}:{:02}:{:02}{}".format, st.integers(0, 25), st.integers(0, 61), st.integers(0, 61), _FRACTION)
_MINUTES = _CLOCK.map(lambda clock: clock[3:])
_HOURS = st.integers(0, 838) | st.integers(0, 10**7) | st.integers(0, 10**13)
_TEXT_OF: dict[str, st.SearchStrategy[str]] = {
    "int(11)": _DIGITS | st.sampled_from(["007", "-0", "+5", " 5", "1_0", "٣", "-", "9" * 18, "9" * 19]),
    "bigint(20) unsigned": st.integers(0, 2**64 - 1).map(str),
    "year(4)": st.sampled_from(["0000", "2024"]),
    "bit(64)": st.integers(0, 2**64 - 1).map(str),
    "decimal(12,2)": st.decimals(allow_nan=False, allow_infinity=False).map(str)
    | st.sampled_from(["-0.00", "1.", ".5", "1e5", "--1", "x", "1" * 65 + "." + "2" * 30, "٣"]),
    "double": st.floats().map(repr)
    | st.sampled_from(["-0.0", "1e22", "1e23", "9007199254740993", "1e400", "1.", "1e", "0.1e-5", "5e-324", "1E5"])
    | st.builds("{}.{}e{}".format, st.integers(-(10**18), 10**18), st.integers(0, 99), st.integers(-30, 30)),
    "float": st.floats(width=32).map(repr),
    "date": _DATE | st.sampled_from(["20240102", "2024-W01-1"]),
    "datetime(6)": st.builds("{} {}".format, _DATE, _CLOCK) | st.sampled_from(["2024-01-02T03:04:05", "2024-01-02"]),
    "timestamp": st.builds("{} {}".format, _DATE, _CLOCK),
    "time(6)": st.builds("{}{:02}:{}".format, st.sampled_from(["", "-", "+"]), _HOURS, _MINUTES),
    "varchar(20)": st.text(),
    "longtext": st.text(min_size=500, max_size=600),
    "blob": st.binary().map(lambda data: data.decode("latin-1")) | st.text(),
    "geometry": st.binary(max_size=30).map(lambda data: data.decode("latin-1")),
    "json": st.sampled_from(['{"a": [1, null, true, 1.5]}', "[]", "7", "nul", '"é"', "[" * 5]),
    "vector(2)": st.just("[1.0, 0.25]"),
    "enum('a','b')": st.sampled_from(["", "a", "b"]),
    "set('a','b')": st.sampled_from(["", "a", "a,b"]),
    "uuid": st.just("3e11fa47-71ca-11e1-9e33-c80aa9429562"),
    "": st.text(max_size=3),
}  # fmt: skip
_KINDS = [pb.INSERT, pb.UPDATE, pb.DELETE]
_ANY_TEXT = st.text(max_size=12) | st.text("0123456789-+:. eE", max_size=30)


@st.composite
def columns(draw: st.DrawFn, index: int, mysql_type: str) -> pb.Column:
    text = draw(st.none() | _TEXT_OF[mysql_type] | _TEXT_OF[mysql_type] | _ANY_TEXT)
    return pb.Column(
        index=index,
        sqlType=draw(st.sampled_from([4, -5, 12])),
        name=f"c{index}" if index else "Größe",
        isKey=index == 1,
        updated=draw(st.booleans()),
        isNull=text is None,
        value=text or "",
        length=draw(st.sampled_from([0, 0, 0, 7])),
        mysqlType=mysql_type,
        props=draw(st.sampled_from([[], [], [], [pb.Pair(key="a", value="é")]])),
    )


def make_nameless(row: pb.RowData, chosen: Callable[[pb.Column], bool]) -> None:
    """Take from the chosen columns what an earlier row of a lean entry tells."""
    for column in (*row.beforeColumns, *row.afterColumns):
        if chosen(column):
            column.name, column.mysqlType, column.isKey = "", "", False


@st.composite
def row_changes(draw: st.DrawFn) -> pb.RowChange:
    types = draw(st.lists(st.sampled_from(list(_TEXT_OF)), max_size=5))
    rows = []
    for _ in range(draw(st.integers(0, 3))):
        before = [draw(columns(index, name)) for index, name in enumerate(types) if draw(st.integers(0, 9))]
        after = [draw(columns(index, name)) for index, name in enumerate(types) if draw(st.integers(0, 9))]
        for one, other in zip(before, after, strict=False):
            if draw(st.booleans()):
                one.value, one.isNull = other.value, other.isNull
        if draw(st.booleans()):
            before = []
        rows.append(pb.RowData(beforeColumns=before, afterColumns=after if draw(st.integers(0, 4)) else []))
        for column in (*rows[-1].beforeColumns, *rows[-1].afterColumns):
            if column.name and draw(st.integers(0, 9)) == 0:
                column.name += draw(st.sampled_from(["", "x", "y"]))
        if draw(st.integers(0, 2)) == 0:
            make_nameless(rows[-1], lambda _: draw(st.integers(0, 4)) > 0)
    return pb.RowChange(
        tableId=draw(st.integers(0, 2**40)),
        eventType=draw(st.sampled_from(_KINDS)),
        sql=draw(st.sampled_from(["", "drop table größe"])),
        rowDatas=rows,
        ddlSchemaName=draw(st.sampled_from(["", "shop"])),
    )


@st.composite
def entries(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from([pb.ROWDATA, pb.ROWDATA, pb.ROWDATA, pb.TRANSACTIONBEGIN, pb.GTIDLOG]))
    prefix = draw(st.sampled_from(["", "0-1-5", "3e11fa47:23", "é", "a#b"]))
    header = pb.Header(
        version=1,
        logfileName=draw(st.sampled_from(["", "bin.000001", "bin.000002"])),
        logfileOffset=draw(st.integers(-(2**63), 2**63 - 1)),
        serverenCode="UTF-8",
        executeTime=draw(st.sampled_from([0, 1_700_000_000_000, -5_000, 10**15])),
        schemaName=draw(st.sampled_from(["", "shop", "größe"])),
        tableName=draw(st.sampled_from(["item", "a\0b"])),
        eventType=cast("pb.EventType", draw(st.integers(-1, 20))),
        props=[pb.Pair(key="rowsCount", value="2")],
        gtid=draw(st.sampled_from(["", prefix])),
        eventId=prefix + draw(st.sampled_from(["", "#0", "#begin"])),
        epoch=3,
        commitTimestampUs=draw(
            st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999) | st.sampled_from([0, 0, -(2**63), 2**63 - 1])
        ),
    )
    if draw(st.integers(0, 9)):
        header.eventType = draw(st.sampled_from(_KINDS))
    body = draw(row_changes()).SerializeToString() if kind == pb.ROWDATA else b"\x0a\x00"
    return pb.Entry(header=header, entryType=kind, storeValue=body).SerializeToString()


def batch_of(raw_entries: Sequence[bytes]) -> bytes:
    return Messages(
        batch_id=5, messages=raw_entries, epoch=3, partial_transaction=True, place=Place(file="bin.000001", offset=9)
    ).SerializeToString()
