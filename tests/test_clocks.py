"""Clock steps on a node change nothing: nothing is decided by the time of day, which is there to be shown alone."""

from __future__ import annotations

import ast
from pathlib import Path

import ha_canal

ROOT = Path(ha_canal.__file__).parent
_SHOWN = {
    ("source/reader.py", "lag_s"): "how far reading is behind, by the source's clock: shown in status",
    ("instance/notices.py", ""): "when something was noticed: shown in status",
    ("instance/sources.py", "_switch"): "since when a source is read: shown in status",
}
"""Who may ask for the time of day, by file and function ("": all of the file), and what for."""
_OF_DAY = {
    "time": {"asctime", "ctime", "gmtime", "localtime", "time", "time_ns"},
    "datetime": {"now", "today", "utcnow"},
    "date": {"today"},
}


def _uses(path: Path) -> set[tuple[str, str]]:
    """Return (file, function) of each place that asks for the time of day."""
    where = path.relative_to(ROOT).as_posix()
    tree = ast.parse(path.read_text("utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            assert not {name.name for name in node.names} & _OF_DAY["time"], f"{where}: import time, not from time"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_of_day(node):
            inside = [one.name for one in functions if one.lineno <= node.lineno <= (one.end_lineno or 0)]
            found.add((where, inside[-1] if inside else ""))
    return found


def _is_of_day(call: ast.Call) -> bool:
    """Whether it is a call for now; one with a moment given, such as ``time.gmtime(moment)``, converts that."""
    assert isinstance(call.func, ast.Attribute)
    owner = call.func.value
    name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
    converts = call.func.attr in {"asctime", "ctime", "gmtime", "localtime"} and bool(call.args)
    return call.func.attr in _OF_DAY.get(name, ()) and not converts


def test_the_time_of_day_is_only_shown() -> None:
    uses: set[tuple[str, str]] = set()
    for path in sorted(ROOT.rglob("*.py")):
        if "testing" not in path.relative_to(ROOT).parts:
            uses |= _uses(path)
    unknown = {use for use in uses if use not in _SHOWN and (use[0], "") not in _SHOWN}
    assert not unknown, "use time.monotonic() or the loop's clock; to show the time of day, add it here with a reason"


def test_the_rule_finds_what_it_looks_for() -> None:
    assert ("source/reader.py", "lag_s") in _uses(ROOT / "source" / "reader.py")
