"""Charts as SVG text. Widths are in pixels of a 1000 wide picture, which scales to its place."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from proxy.pictures.page import escape

WIDTH = 1000
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 150, 14, 44
_COLOURS = 8

Format = Callable[[float], str]


class Interval(NamedTuple):
    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""
    """Said beside it, say its n."""


class Line(NamedTuple):
    label: str
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = ()
    """(x, low, high)."""
    dashed: bool = False


class Point(NamedTuple):
    label: str
    x: float
    y: float
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    ringed: bool = False


class Bar(NamedTuple):
    label: str
    parts: Sequence[tuple[str, float]]
    """(what, how much); the same `what` has the same colour in every bar."""


def colour(place: int) -> str:
    return f"var(--c{place % _COLOURS})"


def short(value: float) -> str:
    """A number in as few characters as it needs."""
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return "∞" if value > 0 else "-∞"
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.3g}M"
    if size >= 1e4:
        return f"{value / 1e3:.3g}k"
    if size >= 1e3:
        return f"{value:,.0f}"
    return f"{value:.3g}" if size >= 1e-3 else f"{value:.1e}"


def intervals(
    shown: Sequence[Interval],
    *,
    label: str,
    form: Format = short,
    marks: Sequence[tuple[float, str]] = (),
    zero: bool = False,
) -> str:
    """Values with their intervals, one to a row. `marks`: upright lines, say a limit. `zero`: the scale begins at 0."""
    known = [one for row in shown for one in (row.value, row.low, row.high) if one is not None and math.isfinite(one)]
    known += [at for at, _ in marks]
    if not known:
        return _empty("nothing to show")
    left = 24 + 7.2 * min(30, max(len(row.label) for row in shown))
    scale = _Scale(min(0.0, *known) if zero else min(known), max(known), left, WIDTH - _RIGHT)
    height = _TOP + 26 * len(shown) + _BOTTOM
    parts = [_grid(scale, _TOP, height - _BOTTOM, form)]
    for place, row in enumerate(shown):
        y = _TOP + 26 * place + 13
        parts.append(_text(left - 10, y + 4, _cut(row.label, 30), "end"))
        ink = colour(place)
        if row.low is not None and row.high is not None and not math.isinf(row.low):
            a, b = scale(row.low), scale(min(row.high, scale.high) if math.isinf(row.high) else row.high)
            parts.append(f"<path d='M{a:.1f} {y}H{b:.1f}' stroke='{ink}' stroke-width='6' stroke-opacity='.28'/>")
            ends = "" if math.isinf(row.high) else f"M{b:.1f} {y - 5}v10"
            parts.append(f"<path d='M{a:.1f} {y - 5}v10{ends}' stroke='{ink}' stroke-width='1.5'/>")
        if row.value is not None and math.isfinite(row.value):
            parts.append(f"<circle cx='{scale(row.value):.1f}' cy='{y}' r='4.5' fill='{ink}'/>")
        said = row.note or ("not measured" if row.value is None else form(row.value))
        parts.append(_text(WIDTH - _RIGHT + 12, y + 4, _cut(said, 24), "start", dim=True))
    parts += [_mark(scale(at), _TOP, height - _BOTTOM, words) for at, words in marks]
    parts.append(_text((left + WIDTH - _RIGHT) / 2, height - 8, label, "middle", dim=True))
    return _svg(height, parts, label)


def lines(
    shown: Sequence[Line],
    *,
    x: str,
    y: str,
    x_form: Format = short,
    y_form: Format = short,
    levels: Sequence[tuple[float, str]] = (),
    logarithmic: bool = False,
    height: int = 300,
) -> str:
    """Lines over a common x, each with its band; labels stand at their ends. `levels`: lines across, say a margin.

    `logarithmic`: of the x axis, whose values must then be above 0.
    """
    xs = [one for line in shown for one, _ in line.points] + [one for line in shown for one, _, _ in line.band]
    ys = [one for line in shown for _, one in line.points]
    ys += [one for line in shown for _, low, high in line.band for one in (low, high)]
    ys = [one for one in ys if math.isfinite(one)] + [at for at, _ in levels]
    if not xs or not ys:
        return _empty("nothing to show yet")
    across = _Scale(min(xs), max(xs), _LEFT, WIDTH - _RIGHT, logarithmic=logarithmic)
    up = _Scale(min(ys), max(ys), height - _BOTTOM, _TOP)
    parts = [_grid(across, _TOP, height - _BOTTOM, x_form), _rungs(up, _LEFT, WIDTH - _RIGHT, y_form)]
    for at, _ in levels:
        parts.append(
            f"<path d='M{_LEFT} {up(at):.1f}H{WIDTH - _RIGHT}' stroke='var(--dim)' stroke-dasharray='4 4' fill='none'/>"
        )
    ends: list[tuple[float, int, str]] = [(up(at), -1, words) for at, words in levels]
    for place, line in enumerate(shown):
        ink = colour(place)
        band = [one for one in line.band if math.isfinite(one[1]) and math.isfinite(one[2])]
        if band:
            top = [f"{across(at):.1f} {up(high):.1f}" for at, _, high in band]
            under = [f"{across(at):.1f} {up(low):.1f}" for at, low, _ in reversed(band)]
            parts.append(f"<path d='M{'L'.join(top + under)}Z' fill='{ink}' fill-opacity='.15'/>")
        drawn = [(across(at), up(value)) for at, value in line.points if math.isfinite(value)]
        if drawn:
            path = "L".join(f"{a:.1f} {b:.1f}" for a, b in drawn)
            dash = " stroke-dasharray='6 4'" if line.dashed else ""
            parts.append(f"<path d='M{path}' fill='none' stroke='{ink}' stroke-width='2'{dash}/>")
            ends.append((drawn[-1][1], place, line.label))
    for at, place, words in _apart(ends):
        ink = colour(place) if place >= 0 else "var(--dim)"
        parts.append(_text(WIDTH - _RIGHT + 8, at + 4, _cut(words, 22), "start", fill=ink))
    parts.append(_text((_LEFT + WIDTH - _RIGHT) / 2, height - 8, x, "middle", dim=True))
    parts.append(_text(_LEFT, _TOP - 3, y, "start", dim=True))
    return _svg(height, parts, f"{y} over {x}")


def points(
    shown: Sequence[Point], *, x: str, y: str, x_form: Format = short, y_form: Format = short, height: int = 320
) -> str:
    """Where things lie in a plane, with the ranges of both. Ringed ones are on a frontier, which is drawn."""
    xs = [one for point in shown for one in (point.x, *(point.x_range or ())) if math.isfinite(one)]
    ys = [one for point in shown for one in (point.y, *(point.y_range or ())) if math.isfinite(one)]
    if not xs or not ys:
        return _empty("nothing to show")
    across = _Scale(min(xs), max(xs), _LEFT, WIDTH - _RIGHT)
    up = _Scale(min(ys), max(ys), height - _BOTTOM, _TOP)
    parts = [_grid(across, _TOP, height - _BOTTOM, x_form), _rungs(up, _LEFT, WIDTH - _RIGHT, y_form)]
    edge = sorted((across(one.x), up(one.y)) for one in shown if one.ringed)
    if len(edge) > 1:
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in edge)
        parts.append(f"<path d='M{path}' fill='none' stroke='var(--dim)' stroke-dasharray='5 4'/>")
    labels: list[tuple[float, float, int, str]] = []
    for place, point in enumerate(shown):
        a, b, ink = across(point.x), up(point.y), colour(place)
        if point.x_range is not None:
            low, high = (across(min(max(one, across.low), across.high)) for one in point.x_range)
            parts.append(f"<path d='M{low:.1f} {b:.1f}H{high:.1f}' stroke='{ink}' stroke-opacity='.5'/>")
        if point.y_range is not None:
            low, high = (up(one) for one in point.y_range)
            parts.append(f"<path d='M{a:.1f} {low:.1f}V{high:.1f}' stroke='{ink}' stroke-opacity='.5'/>")
        ring = f"<circle cx='{a:.1f}' cy='{b:.1f}' r='8' fill='none' stroke='{ink}'/>" if point.ringed else ""
        parts.append(f"{ring}<circle cx='{a:.1f}' cy='{b:.1f}' r='4.5' fill='{ink}'/>")
        labels.append((a, b, place, point.label))
    for at, (a, _, place, words) in zip(_places([one[1] for one in labels]), labels, strict=True):
        left = a > WIDTH - _RIGHT - 120
        parts.append(
            _text(a - 12 if left else a + 12, at - 7, _cut(words, 26), "end" if left else "start", fill=colour(place))
        )
    parts.append(_text((_LEFT + WIDTH - _RIGHT) / 2, height - 8, x, "middle", dim=True))
    parts.append(_text(_LEFT, _TOP - 3, y, "start", dim=True))
    return _svg(height, parts, f"{y} against {x}")


def bars(shown: Sequence[Bar], *, label: str, form: Format = short) -> str:
    """Lying bars of parts laid end to end, on one scale from 0, with a legend."""
    totals = [math.fsum(amount for _, amount in bar.parts) for bar in shown]
    if not totals or max(totals) <= 0:
        return _empty("nothing to show")
    names = list(dict.fromkeys(what for bar in shown for what, _ in bar.parts))
    left = 24 + 7.2 * min(30, max(len(bar.label) for bar in shown))
    scale = _Scale(0.0, max(totals), left, WIDTH - _RIGHT, exact=True)
    height = _TOP + 26.0 * len(shown) + _BOTTOM + 22
    parts = []
    for place, (bar, total) in enumerate(zip(shown, totals, strict=True)):
        y, at = _TOP + 26.0 * place, 0.0
        parts.append(_text(left - 10, y + 17, _cut(bar.label, 30), "end"))
        for what, amount in bar.parts:
            wide = scale(at + amount) - scale(at)
            parts.append(
                f"<rect x='{scale(at):.1f}' y='{y + 4}' width='{max(0.0, wide):.1f}' height='18' "
                f"fill='{colour(names.index(what))}'><title>{escape(what)}: {escape(form(amount))}</title></rect>"
            )
            at += amount
        parts.append(_text(scale(total) + 8, y + 17, form(total), "start", dim=True))
    x, y = left, height - 30
    for place, what in enumerate(names):
        wide = 30 + 7.0 * len(what)
        if x + wide > WIDTH - 20:
            x, y, height = left, y + 20, height + 20
        parts.append(f"<rect x='{x:.1f}' y='{y - 10:.1f}' width='11' height='11' fill='{colour(place)}'/>")
        parts.append(_text(x + 16, y, what, "start"))
        x += wide
    parts.append(_text(left, height - 6, label, "start", dim=True))
    return _svg(height, parts, label)


# -- parts of charts


class _Scale:
    """A value's place in pixels, with round ticks around the data."""

    def __init__(
        self, low: float, high: float, start: float, end: float, *, logarithmic: bool = False, exact: bool = False
    ) -> None:
        self._log = logarithmic and low > 0
        if self._log:
            self.low, self.high = low, max(high, low * 1.01)
            tens = range(math.floor(math.log10(low)), math.ceil(math.log10(self.high)) + 1)
            ticks = [m * 10.0**e for e in tens for m in (1, 2, 5)]
            self.ticks = [tick for tick in ticks if low <= tick <= self.high]
            if len(self.ticks) > 9:
                self.ticks = [tick for tick in self.ticks if math.log10(tick).is_integer()]
        else:
            if high - low < 1e-300:
                reach = abs(low) * 0.1 or 1.0
                low, high = low - reach, high + reach
            step = _step(high - low)
            self.low = low if exact else math.floor(low / step + 1e-9) * step
            self.high = high if exact else math.ceil(high / step - 1e-9) * step
            first = math.ceil(self.low / step - 1e-9)
            count = math.floor((self.high - first * step) / step + 1e-9)
            self.ticks = [(first + place) * step for place in range(count + 1)]
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        if self._log:
            part = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self._start + (self._end - self._start) * part


def _step(span: float) -> float:
    rough = span / 6
    ten = 10.0 ** math.floor(math.log10(rough))
    return next(ten * size for size in (1.0, 2.0, 2.5, 5.0, 10.0) if ten * size >= rough - ten * 1e-9)


def _grid(scale: _Scale, top: float, bottom: float, form: Format) -> str:
    drawn = "".join(f"M{scale(tick):.1f} {top}V{bottom}" for tick in scale.ticks)
    words = "".join(_text(scale(tick), bottom + 17, form(_clean(tick)), "middle", dim=True) for tick in scale.ticks)
    return f"<path d='{drawn}' stroke='var(--line)'/>{words}"


def _rungs(scale: _Scale, left: float, right: float, form: Format) -> str:
    drawn = "".join(f"M{left} {scale(tick):.1f}H{right}" for tick in scale.ticks)
    words = "".join(_text(left - 8, scale(tick) + 4, form(_clean(tick)), "end", dim=True) for tick in scale.ticks)
    return f"<path d='{drawn}' stroke='var(--line)'/>{words}"


def _clean(tick: float) -> float:
    """Without the dust of floating point, so that 0.30000000000000004 is 0.3 and a tiny rest is 0."""
    return float(f"{tick:.10g}") if abs(tick) > 1e-12 else 0.0


def _mark(x: float, top: float, bottom: float, words: str) -> str:
    at, anchor = (x + 4, "start") if x < WIDTH - _RIGHT - 60 else (x - 4, "end")  # notes stand to the right
    return (
        f"<path d='M{x:.1f} {top}V{bottom}' stroke='var(--bad)' stroke-dasharray='4 4'/>"
        f"{_text(at, top + 9, _cut(words, 28), anchor, dim=True)}"
    )


def _apart(ends: list[tuple[float, int, str]]) -> list[tuple[float, int, str]]:
    """The same, moved so that no label covers another."""
    places = _places([at for at, _, _ in ends])
    return [(at, place, words) for at, (_, place, words) in zip(places, ends, strict=True)]


def _places(wanted: Sequence[float], gap: float = 14.0) -> list[float]:
    order = sorted(range(len(wanted)), key=lambda place: wanted[place])
    placed = [0.0] * len(wanted)
    last = -math.inf
    for place in order:
        placed[place] = last = max(wanted[place], last + gap)
    return placed


def _text(x: float, y: float, words: str, anchor: str, *, dim: bool = False, fill: str = "") -> str:
    look = f" style='fill:{fill}'" if fill else " class=dim" if dim else ""
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'{look}>{escape(words)}</text>"


def _cut(words: str, most: int) -> str:
    return words if len(words) <= most else words[: most - 1] + "…"


def _svg(height: float, parts: Sequence[str], label: str) -> str:
    return (
        f"<svg viewBox='0 0 {WIDTH} {height:.0f}' width='{WIDTH}' height='{height:.0f}' role='img' "
        f"aria-label='{escape(label)}'>{''.join(parts)}</svg>"
    )


def _empty(words: str) -> str:
    return f"<p class=dim>{escape(words)}</p>"
