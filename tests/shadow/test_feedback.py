"""What people say as a metric: it counts where both answers of a pair were rated, and nowhere else."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from policies.trial import State
from proxy.measure.store.ledger import Ledger
from proxy.shadow.report import report
from tests.shadow.rig import Rig, config, experiment, rig
from tests.shadow.scripted import Model, Scripted

GOOD = Model(valid=1.0)
EXPERIMENT = experiment(primary={"kind": "feedback", "margin": 0.1}, guardrails=[{"kind": "errors", "margin": 0.1}])


async def say(proxy: Rig, id: str, score: float, **more: Any) -> None:
    answer = await proxy.client.post("/api/feedback", json={"id": id, "score": score, **more})
    assert answer.status_code == 200, answer.text


async def paired(proxy: Rig, folder: Path, number: int) -> list[dict[str, Any]]:
    """So many pairs, as soon as the store has them."""
    for one in range(number):
        await proxy.ask(f"number {one}")
    await proxy.idle()
    assert proxy.app.store is not None
    await asyncio.to_thread(proxy.app.store.flush)
    await proxy.app.mirror._write()
    return Ledger(folder / "exchanges.db").rows("SELECT pair_no, live_id, shadow_id FROM v_shadow_pairs")


def test_it_decides_where_both_were_rated(tmp_path: Path) -> None:
    async def test() -> None:
        async with Scripted({"primary": GOOD, "candidate": GOOD}).serving() as there:
            told = config(tmp_path, there.url, {"x": EXPERIMENT})
            async with rig(told) as proxy:
                pairs = await paired(proxy, tmp_path, 120)
                for pair in pairs:
                    await say(proxy, pair["live_id"], 0.0)
                await proxy.app.mirror._rate()
                assert proxy.one.tally.counts.get("feedback") is None, "one rated arm compares nothing"
                assert (await proxy.client.get("/api/shadow/x")).json()["state"] == "running"
                ledger = Ledger(tmp_path / "exchanges.db")
                waiting = report(ledger, "x", "2026-11-01")
                assert waiting is not None
                assert "Have both answers of 100 more" in waiting["next"]
                for pair in pairs:
                    await say(proxy, pair["shadow_id"], 1.0)
                    await say(proxy, pair["shadow_id"], 0.0)  # the first word counts
                await proxy.until(lambda: proxy.one.state is not State.RUNNING)
                assert (proxy.one.state, proxy.one.label) == (State.PROMOTE, "better")
                await proxy.until(lambda: proxy.one.tally.counts["feedback"] == {200: 120})
                await say(proxy, pairs[0]["shadow_id"], 0.0)
                await proxy.app.mirror._rate()
                assert proxy.one.tally.counts["feedback"] == {200: 120}, "a pair has one score for all time"
            async with rig(told) as proxy:
                assert proxy.one.tally.counts["feedback"] == {200: 120}, "from SQL alone"
                assert proxy.one.state is State.PROMOTE

    asyncio.run(test())


@pytest.mark.parametrize("name", ["feedback", "thumbs"])
def test_only_feedback_of_its_name_counts(tmp_path: Path, name: str) -> None:
    async def test() -> None:
        metric = {"kind": "feedback"} if name == "feedback" else {"kind": "feedback", "name": name}
        async with (
            Scripted({"primary": GOOD, "candidate": GOOD}).serving() as there,
            rig(config(tmp_path, there.url, {"x": experiment(primary=metric)})) as proxy,
        ):
            pairs = await paired(proxy, tmp_path, 2)
            for arm, score in (("live_id", 0.2), ("shadow_id", 0.7)):
                await say(proxy, pairs[0][arm], score, name=name)
                await say(proxy, pairs[1][arm], score, name="other")
            await proxy.app.mirror._rate()
            assert proxy.one.tally.counts["feedback"] == {150: 1}

    asyncio.run(test())


def test_what_is_said_of_another_targets_answer_is_no_word_on_the_primary(tmp_path: Path) -> None:
    async def test() -> None:
        routes = {"chat": {"targets": ["local/primary", "local/second"]}}
        models = {"primary": Model(errors=1.0), "second": GOOD, "candidate": GOOD}
        async with (
            Scripted(models).serving() as there,
            rig(config(tmp_path, there.url, {"x": EXPERIMENT}, routes=routes)) as proxy,
        ):
            (pair,) = await paired(proxy, tmp_path, 1)
            await say(proxy, pair["live_id"], 0.5)
            await say(proxy, pair["shadow_id"], 0.5)
            await proxy.app.mirror._rate()
            assert proxy.one.tally.counts.get("feedback") is None

    asyncio.run(test())
