"""The timeline of a campaign as an SVG: faults above, then who led, deliveries and lag below. Pure.

Written by hand: three kinds of shapes are all it takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from ha_canal.testing.chaos.campaign import Outcome
from ha_canal.testing.chaos.report import Effect, effects, lags
from ha_canal.testing.chaos.schedule import KINDS

_LEFT, _RIGHT, _TOP = 190, 30, 46
_LANE, _BAND, _PLOT = 15, 18, 120
_WIDTH = 1500
_LEAST_LAG_S = 0.001
_COLOURS = {
    "kill": "#c0392b",
    "pause": "#e67e22",
    "cut": "#8e44ad",
    "delay": "#c39bd3",
    "half-open": "#5b2c6f",
    "crash": "#922b21",
    "restart": "#d98880",
    "promote": "#1f618d",
    "clock": "#7f8c8d",
    "disk": "#6e2c00",
    "move": "#27ae60",
    "stop": "#196f3d",
}
_EPOCH_COLOURS = ("#aed6f1", "#a9dfbf", "#f9e79f", "#f5cba7", "#d7bde2")


def timeline(outcome: Outcome, title: str) -> str:
    """Return the picture."""
    found = effects(outcome)
    lanes = sorted({effect.name for effect in found}, key=lambda name: (KINDS.index(name.split(" ")[0]), name))
    length_s = max(1.0, outcome.ended_s - outcome.began_s)
    bands_y = _TOP + _LANE * len(lanes) + 12
    rate_y = bands_y + _BAND + 16
    lag_y = rate_y + _PLOT + 24
    height = lag_y + _PLOT + 30
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-family="sans-serif" '
            'font-size="11">'
        ),
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{_LEFT}" y="20" font-size="15">{escape(title)}</text>',
        *_axis(length_s, height - 16),
        *_faults(found, lanes, length_s),
        *_leaders(outcome, length_s, bands_y),
        *_rates(outcome, length_s, rate_y),
        *_lags(outcome, length_s, lag_y),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _x(at_s: float, length_s: float) -> float:
    inside = min(max(at_s, 0.0), length_s)
    return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * inside / length_s, 1)


def _axis(length_s: float, y: float) -> Iterator[str]:
    step_s = next(step for step in (1, 5, 10, 30, 60, 300, 600, 3600) if length_s / step <= 20 or step == 3600)
    for number in range(int(length_s / step_s) + 1):
        x = _x(number * step_s, length_s)
        yield f'<line x1="{x}" x2="{x}" y1="{_TOP - 8}" y2="{y - 12}" stroke="#eeeeee"/>'
        yield f'<text x="{x}" y="{y}" text-anchor="middle">{number * step_s} s</text>'


def _faults(found: Sequence[Effect], lanes: Sequence[str], length_s: float) -> Iterator[str]:
    for place, lane in enumerate(lanes):
        yield f'<text x="{_LEFT - 8}" y="{_TOP + place * _LANE + 10}" text-anchor="end">{escape(lane)}</text>'
    for effect in found:
        y = _TOP + lanes.index(effect.name) * _LANE + 1
        x = _x(effect.began_s, length_s)
        width = max(2.0, _x(effect.began_s + effect.lasted_s, length_s) - x)
        said = f"{effect.name}: {effect.victim}, {effect.lasted_s} s, {effect.out_s} s without service"
        colour = _COLOURS.get(effect.name.split(" ")[0], "black")
        yield (
            f'<rect x="{x}" y="{y}" width="{width:.1f}" height="{_LANE - 4}" fill="{colour}">'
            f"<title>{escape(said)}</title></rect>"
        )


def _leaders(outcome: Outcome, length_s: float, y: float) -> Iterator[str]:
    """Draw one band per epoch, from its first batch to its last one."""
    yield f'<text x="{_LEFT - 8}" y="{y + 12}" text-anchor="end">batches of epoch</text>'
    spans: dict[int, tuple[float, float]] = {}
    for handed in outcome.handed:
        at_s = handed.at_s - outcome.began_s
        first, last = spans.get(handed.epoch, (at_s, at_s))
        spans[handed.epoch] = (min(first, at_s), max(last, at_s))
    for epoch, (first, last) in sorted(spans.items()):
        x, colour = _x(first, length_s), _EPOCH_COLOURS[epoch % len(_EPOCH_COLOURS)]
        width = max(1.0, _x(last, length_s) - x)
        yield f'<rect x="{x}" y="{y}" width="{width:.1f}" height="{_BAND - 4}" fill="{colour}"/>'
        if width > 14:
            yield f'<text x="{x + width / 2:.1f}" y="{y + 11}" text-anchor="middle">{epoch}</text>'


def _rates(outcome: Outcome, length_s: float, y: float) -> Iterator[str]:
    """Draw changes per second, new ones and repeated ones."""
    per_second = [0] * (math.ceil(length_s) + 1)
    for handed in outcome.handed:
        second = int(handed.at_s - outcome.began_s)
        if 0 <= second < len(per_second):
            per_second[second] += len(handed.deliveries)
    repeated = [0] * len(per_second)
    for repeat in outcome.repeats:
        second = int(repeat.at_s - outcome.began_s)
        if 0 <= second < len(repeated):
            repeated[second] += repeat.changes
    highest = max(*per_second, 1)
    yield f'<text x="{_LEFT - 8}" y="{y + 12}" text-anchor="end">changes per second</text>'
    yield f'<text x="{_LEFT - 8}" y="{y + 26}" text-anchor="end">up to {highest}</text>'
    yield f'<text x="{_LEFT - 8}" y="{y + 40}" text-anchor="end" fill="#c0392b">repeated</text>'
    for counts, colour in ((per_second, "#5499c7"), (repeated, "#c0392b")):
        for second, count in enumerate(counts):
            if count:
                x, size = _x(second, length_s), _PLOT * count / highest
                width = max(0.8, _x(second + 1, length_s) - x - 0.2)
                yield (
                    f'<rect x="{x}" y="{y + _PLOT - size:.1f}" width="{width:.1f}" height="{size:.1f}" '
                    f'fill="{colour}"/>'
                )
    yield f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y + _PLOT}" y2="{y + _PLOT}" stroke="#999999"/>'


def _lags(outcome: Outcome, length_s: float, y: float) -> Iterator[str]:
    """Draw the longest lag of each second on a logarithmic scale."""
    worst: dict[int, float] = {}
    for at_s, lag_s in lags(outcome):
        second = int(at_s - outcome.began_s)
        worst[second] = max(worst.get(second, 0.0), lag_s)
    highest = max(1.0, *worst.values(), 1.0)
    span = math.log10(highest / _LEAST_LAG_S)
    yield f'<text x="{_LEFT - 8}" y="{y + 12}" text-anchor="end">commit to client</text>'
    yield f'<text x="{_LEFT - 8}" y="{y + 26}" text-anchor="end">(logarithmic)</text>'
    decade = _LEAST_LAG_S
    while decade <= highest:
        height = y + _PLOT - _PLOT * math.log10(decade / _LEAST_LAG_S) / span
        yield f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{height:.1f}" y2="{height:.1f}" stroke="#eeeeee"/>'
        yield f'<text x="{_WIDTH - _RIGHT + 2}" y="{height + 4:.1f}" font-size="9">{decade:g}</text>'
        decade *= 10
    for second, lag_s in sorted(worst.items()):
        size = _PLOT * math.log10(max(lag_s, _LEAST_LAG_S) / _LEAST_LAG_S) / span
        x = _x(second, length_s)
        width = max(0.8, _x(second + 1, length_s) - x - 0.2)
        yield f'<rect x="{x}" y="{y + _PLOT - size:.1f}" width="{width:.1f}" height="{size:.1f}" fill="#45b39d"/>'
