"""A run as a picture: for each data set the rates of all paths as bars, in SVG written by hand. Pure.

The scale is logarithmic, since the peer and the raw drain lie three orders of magnitude apart; each bar says its
figure, and how many times the peer's that is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from html import escape

from ha_canal.testing.bench.goals import ratio
from ha_canal.testing.bench.run import PATHS, Measured

_WIDTH, _LABEL, _BAR, _GAP, _TITLE = 900, 210, 20, 6, 34
_COLOURS = {
    "drain": "#9aa5b1", "peer": "#c05746", "ring": "#3d7ea6", "entries": "#2a9d8f", "pure": "#8ab17d", "sdk": "#264653",
}  # fmt: skip
_STYLE = "text{font:13px sans-serif;fill:#222}.t{font-weight:bold}.v{font-size:12px}"


def svg(measured: Mapping[str, Measured], footer: str) -> str:
    """Return the picture. ``footer`` says on what it was measured."""
    y = 10
    shapes: list[str] = []
    for one in measured.values():
        shapes += _panel(one, y)
        y += _TITLE + len(one.paths) * (_BAR + _GAP) + _GAP
    shapes.append(f'<text class="v" x="10" y="{y + 14}">{escape(footer)}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y + 26}"><style>{_STYLE}</style>'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *shapes, "</svg>\n"])


def _panel(one: Measured, y: int) -> Iterator[str]:
    unit = one.data.unit
    rates = {path: series.per_second(unit) for path, series in one.paths.items()}
    low = 10 ** math.floor(math.log10(min(rates.values())))
    room = (_WIDTH - _LABEL - 210) / math.log10(max(rates.values()) / low)
    yield f'<text class="t" x="10" y="{y + 20}">{one.data.name}: {unit}s per second (logarithmic)</text>'
    y += _TITLE
    for path, rate in rates.items():
        length = max(2.0, math.log10(rate / low) * room)
        yield f'<text x="10" y="{y + 15}">{escape(PATHS[path])}</text>'
        yield f'<rect x="{_LABEL}" y="{y}" width="{length:.1f}" height="{_BAR}" fill="{_COLOURS[path]}"/>'
        said = f"{rate:,.0f}" if path == "peer" else f"{rate:,.0f}  ({ratio(one, path, 'peer'):.1f} times)"
        yield f'<text class="v" x="{_LABEL + length + 6:.1f}" y="{y + 15}">{said}</text>'
        y += _BAR + _GAP
