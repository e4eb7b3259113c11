"""How faults are written, and to which requests they apply."""

from __future__ import annotations

import pytest

from proxy.simulated import FAULTS, Fault
from proxy.simulated.faults import pick


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("http_503", Fault("http_503")),
        ("http_503:0.3", Fault("http_503", rate=0.3)),
        ("http_503:30%", Fault("http_503", rate=0.3)),
        ("http_503#3", Fault("http_503", first=3, last=3)),
        ("http_503#1-5", Fault("http_503", first=1, last=5)),
        ("http_503#4-", Fault("http_503", first=4)),
        ("cut_mid_stream=after:7", Fault("cut_mid_stream", after=7)),
        ("cut_mid_stream=after:7:0.5", Fault("cut_mid_stream", after=7, rate=0.5)),
        ("big_line=before", Fault("big_line", after=0)),
        ("big_line=after", Fault("big_line", after=2)),
        ("http_429=retry_after:2", Fault("http_429", retry_after=2.0)),
        ("http_429=retry_after:2:10%", Fault("http_429", retry_after=2.0, rate=0.1)),
        ("slow_ttft=1.5s#2", Fault("slow_ttft", seconds=1.5, first=2, last=2)),
        ("refuse=200ms", Fault("refuse", seconds=0.2)),
    ],
)
def test_reading(text: str, fault: Fault) -> None:
    assert Fault.parse(text) == fault
    assert Fault.parse(str(fault)) == fault, "what is shown can be read again"


@pytest.mark.parametrize("kind", FAULTS)
def test_every_kind_reads_alone(kind: str) -> None:
    assert Fault.parse(kind) == Fault(kind)
    assert Fault.parse(str(Fault(kind))) == Fault(kind)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("http_50", "did you mean http_50"),
        ("", "not a fault"),
        ("http_503:1.5", "between 0 and 1"),
        ("http_503:-1", "between 0 and 1"),
        ("http_503:often", "between 0 and 1"),
        ("http_503#0", "count from 1"),
        ("http_503#5-2", "the smaller number first"),
        ("http_503#x", "not a fault"),
        ("http_503=5s", "takes =retry_after:2"),
        ("html_200=5s", "takes no value"),
        ("cut_mid_stream=after:x", "takes =after:N"),
        ("slow_ttft=soon", "not a duration"),
        ("refuse=5s:0.3", "only where it applies always"),
    ],
)
def test_mistakes(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Fault.parse(text)


def _picked(specs: list[str], turns: int, seed: int = 7) -> list[str | None]:
    faults = [Fault.parse(spec) for spec in specs]
    return [fault and fault.kind for fault in (pick(faults, seed, turn) for turn in range(1, turns + 1))]


def test_numbers() -> None:
    assert _picked(["http_500#2", "http_503#4-5", "http_429#7-"], 8) == [
        None, "http_500", None, "http_503", "http_503", None, "http_429", "http_429",
    ]  # fmt: skip


def test_the_first_that_applies_wins() -> None:
    assert _picked(["http_500#2-3", "http_503"], 4) == ["http_503", "http_500", "http_500", "http_503"]


def test_rates_are_drawn_by_seed_and_turn() -> None:
    drawn = _picked(["http_500:0.3"], 2000)
    assert drawn == _picked(["http_500:0.3"], 2000)
    assert drawn != _picked(["http_500:0.3"], 2000, seed=8)
    # Five standard deviations of a binomial(2000, 0.3) are 102.
    assert abs(drawn.count("http_500") - 600) <= 102
    assert _picked(["http_500:0"], 50) == [None] * 50
    assert _picked(["http_500:1"], 50) == ["http_500"] * 50


def test_two_rates_are_drawn_apart() -> None:
    drawn = _picked(["http_500:0.5", "http_503:0.5"], 400)
    assert {"http_500", "http_503", None} == set(drawn)
