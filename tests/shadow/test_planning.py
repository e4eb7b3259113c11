"""What an experiment is going to take is told before it starts, from the route's own traffic and its prices."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.cli import main
from proxy.measure.store.ledger import Ledger
from proxy.shadow.planning import Traffic, plan, traffic, usd_per_call
from tests.shadow.rig import config, experiment, rig
from tests.shadow.scripted import Model, Scripted
from tests.shadow.stored import terms

A_DAY = Traffic(10_000, 2.0, True, 1000, 200)


def test_dollars_are_those_of_all_calls() -> None:
    assert usd_per_call(A_DAY, (1.0, 5.0)) == pytest.approx(2000e-6)
    # The first call of a conversation is judged, twice 1,700 tokens and 50 more; a fifth is asked (and judged) again.
    judged = (3400 * 2 + 100 * 10) * 1e-6
    assert usd_per_call(A_DAY, (1.0, 5.0), (2.0, 10.0)) == pytest.approx(2000e-6 + judged / 2)
    again = 0.2 * 4000e-6 + 1.2 * judged
    assert usd_per_call(A_DAY, (1.0, 5.0), (2.0, 10.0), (2.0, 10.0), 0.2) == pytest.approx(2000e-6 + again / 2)
    assert usd_per_call(A_DAY, (None, None)) is None


def test_it_is_told_in_days_and_dollars() -> None:
    one = terms(rate=0.05)  # 440 conversations, nine in ten within 1,196; 500 a day are sampled
    assert plan(one, A_DAY, 0.002) == (
        "about 440 conversations to a verdict, nine in ten within 1,196; at 10,000 conversations a day: 0.9 to 2.4 days"
        " and 1.76 to 4.78 USD; at most 5 USD a day, 50 USD in all"
    )
    assert "0.9 to 2.4 days; at most" in plan(one, A_DAY, None)
    assert "set `prices`" in plan(one, A_DAY, None)
    assert "requests a day: 2.1 to 5.7 hours" in plan(terms(rate=0.5), A_DAY._replace(units_known=False), 0.0001)
    slowed = plan(one, A_DAY, 0.02)
    assert "3.5 to 9.6 days and 17.60 to 47.84 USD" in slowed, "the day's budget is what takes longest"
    assert "the money will run out" in plan(one, A_DAY, 0.2)
    assert "told once the route has had traffic" in plan(one)
    assert "a report without a verdict" in plan(terms(primary=None), A_DAY, 0.002)
    assert "more than max_units" in plan(terms(margin=0.01))


def test_the_command_and_the_api_tell_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def test() -> str:
        async with Scripted({"primary": Model(valid=1.0), "candidate": Model(valid=1.0)}).serving() as there:
            told = config(tmp_path, there.url, {})
            async with rig(told) as proxy:
                for number in range(40):
                    await proxy.ask(f"number {number % 10}")
                assert proxy.app.store is not None
                await asyncio.to_thread(proxy.app.store.flush)
                _aged(Ledger(tmp_path / "exchanges.db"))
                made = await proxy.client.post("/api/shadow", json={"name": "x", **experiment(primary="errors")})
                (one,) = made.json()["experiments"]
            (tmp_path / "weighbridge.json").write_text(
                json.dumps(config(tmp_path, there.url, {"y": experiment(primary="errors")}))
            )
            return str(one["plan"])

    said = asyncio.run(test())
    assert "at 20 requests a day" in said
    assert " USD; at most 5 USD a day" in said
    for command in (["check"], ["shadow", "list"]):
        assert main([*command, "--config", str(tmp_path / "weighbridge.json")]) == 0
        assert said in capsys.readouterr().out, "the same by command"
    seen = traffic(Ledger(tmp_path / "exchanges.db"), ("chat",), datetime.now(UTC))
    assert seen is not None
    assert (seen.input_tokens, seen.output_tokens, seen.calls_per_unit) == (20, 10, 1)
    assert traffic(Ledger(tmp_path / "exchanges.db"), ("other",), datetime.now(UTC)) is None
    assert traffic(Ledger(tmp_path), ("chat",), datetime.now(UTC)) is None, "no store, no plan, no fault"


def _aged(ledger: Ledger) -> None:
    """As if half of the traffic had come two days ago."""
    with ledger._open() as connection:
        connection.execute("UPDATE exchanges SET at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-2 days') WHERE n % 2")
