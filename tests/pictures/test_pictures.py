"""Pictures hold what they were given, whatever it is, and nothing else."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from proxy.pictures import Bar, Interval, Line, Point, bars, intervals, lines, note, page, points, section, table, tiles
from proxy.pictures.charts import _places, _Scale

NASTY = "<script>alert(1)</script>&'\""
NUMBERS = st.floats(-1e9, 1e9, allow_nan=False)
NAMES = st.text(min_size=1, max_size=40)


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg.replace(" class=dim", ' class="dim"'))  # noqa: S314  (our own text)


def test_whatever_is_shown_is_escaped() -> None:
    made = page(
        NASTY,
        [
            section(NASTY, note(NASTY), table([NASTY], [[NASTY]]), tiles([(NASTY, NASTY, NASTY)]), lead=NASTY),
            intervals([Interval(NASTY, 1.0, 0.0, 2.0, NASTY)], label=NASTY),
            lines([Line(NASTY, [(0, 1), (1, 2)])], x=NASTY, y=NASTY),
            points([Point(NASTY, 1, 1), Point("b", 2, 2)], x=NASTY, y=NASTY),
            bars([Bar(NASTY, [(NASTY, 1.0)])], label=NASTY),
        ],
        subtitle=NASTY,
        footer=NASTY,
    ).decode()
    assert "<script" not in made
    assert made.count("&lt;script") >= 12
    assert not re.search(r"(?:src|href)=|https?://", made)


@given(st.lists(st.tuples(NAMES, NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=6))
def test_any_numbers_make_a_picture_within_its_bounds(rows: list[tuple[str, float, float, float]]) -> None:
    drawn = [
        intervals([Interval(name, a, min(b, c), max(b, c)) for name, a, b, c in rows], label="x"),
        lines([Line(name, [(0.0, a), (1.0, b)], [(0.0, b, c)]) for name, a, b, c in rows], x="x", y="y"),
        points([Point(name, a, b, (b, c), ringed=True) for name, a, b, c in rows], x="x", y="y"),
        bars([Bar(name, [("one", abs(a)), ("two", abs(b))]) for name, a, b, _ in rows], label="x"),
    ]
    for svg in drawn:
        if not svg.startswith("<svg"):
            continue  # bars of nothing
        root = parsed(svg)
        width, height = float(root.attrib["width"]), float(root.attrib["height"])
        for circle in root.iter("circle"):
            assert -1 <= float(circle.attrib["cx"]) <= width + 1
            assert -1 <= float(circle.attrib["cy"]) <= height + 1
        assert "nan" not in svg


def test_what_has_no_value_is_said_to_have_none() -> None:
    svg = intervals(
        [Interval("a", 1.0, 0.5, float("inf")), Interval("b", None), Interval("c", float("inf"))], label="x"
    )
    assert "not measured" in svg
    assert "∞" in svg
    assert len(list(parsed(svg).iter("circle"))) == 1
    assert "nothing to show" in intervals([Interval("a", None)], label="x")
    assert "nothing to show" in lines([], x="x", y="y")
    assert "nothing to show" in bars([Bar("a", [("x", 0.0)])], label="x")


@given(NUMBERS, NUMBERS)
def test_scales_keep_order_and_have_round_ticks(a: float, b: float) -> None:
    scale = _Scale(min(a, b), max(a, b), 0, 100)
    assert 2 <= len(scale.ticks) <= 14
    assert scale.low <= min(a, b) + 1e-6 * (scale.high - scale.low)
    assert scale(scale.low) <= scale(scale.high)
    if a < b:
        assert scale(a) <= scale(b)


def test_a_logarithmic_scale_spaces_by_ratio() -> None:
    scale = _Scale(1, 100, 0, 200, logarithmic=True)
    assert round(scale(10)) == 100


@given(st.lists(st.floats(0, 300), max_size=12))
def test_labels_do_not_cover_each_other(wanted: list[float]) -> None:
    placed = sorted(_places(wanted))
    assert all(b - a >= 13.999 for a, b in pairwise(placed))
