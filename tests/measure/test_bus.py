from __future__ import annotations

import logging

import pytest

from proxy.measure.bus import Bus
from proxy.record import Exchange
from tests.measure.records import exchange


class _Kept:
    def __init__(self, log: list[str] | None = None, name: str = "") -> None:
        self.seqs: list[int] = []
        self._log, self._name = log, name

    def accept(self, exchange: Exchange) -> None:
        self.seqs.append(exchange.seq)
        if self._log is not None:
            self._log.append(self._name)


class _Lossy(_Kept):
    def losses(self) -> dict[str, int]:
        return {"queue_full": 3}


class _Broken:
    def accept(self, exchange: Exchange) -> None:
        raise ValueError("no")


def test_exchanges_are_numbered_and_reach_every_sink_in_order() -> None:
    order: list[str] = []
    first, second = _Kept(order, "first"), _Kept(order, "second")
    bus = Bus({"first": first, "second": second})
    for _ in range(3):
        bus.publish(exchange())
    assert first.seqs == second.seqs == [1, 2, 3]
    assert order == ["first", "second"] * 3
    assert bus.published == 3


def test_a_sink_that_raises_costs_its_own_records_only(caplog: pytest.LogCaptureFixture) -> None:
    now = [1000.0]
    after = _Lossy()
    bus = Bus({"broken": _Broken(), "after": after}, now=lambda: now[0])
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            bus.publish(exchange())
        assert len(caplog.records) == 1
        now[0] += 61
        bus.publish(exchange())
    assert len(caplog.records) == 2
    assert "6 records lost" in caplog.text
    assert after.seqs == [1, 2, 3, 4, 5, 6]
    assert bus.losses() == {("broken", "raised"): 6, ("after", "raised"): 0, ("after", "queue_full"): 3}
