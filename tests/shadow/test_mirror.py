"""The live side notices nothing, nothing is lost unseen, and no more is spent than was said."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from policies.trial import State
from proxy.measure.store.ledger import Ledger
from proxy.shadow.isolation import AT_ONCE, WAITING
from tests.shadow.rig import adds_up, config, experiment, rig
from tests.shadow.scripted import Model, Scripted

PRIMARY = Model(valid=1.0)
JSON = {"response_format": {"type": "json_object"}}


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


@pytest.mark.parametrize(
    "candidate",
    [Model(hangs=True), Model(errors=1.0), Model(ttft=0.5), Model(tokens=100_000)],
    ids=["hangs", "errors", "slow", "floods"],
)
def test_the_live_side_notices_nothing(candidate: Model) -> None:
    async def test() -> None:
        live = 300
        async with Scripted({"primary": PRIMARY, "candidate": candidate}).serving() as there:
            async with rig(config(None, there.url, {"x": experiment()})) as proxy:
                gate = asyncio.Semaphore(20)

                async def one(number: int) -> int:
                    async with gate:
                        return (await proxy.ask(f"number {number}", stream=number % 2 == 0)).status_code

                assert await asyncio.gather(*map(one, range(live))) == [200] * live
                assert there.asked["primary"] == live, "a live request was sent twice"
                assert there.most_under_way["candidate"] <= AT_ONCE
                assert proxy.app.mirror.waiting <= AT_ONCE + WAITING
                counts = proxy.one.counts
                assert counts["sampled"] == live
                assert adds_up(proxy.one)
                if candidate.hangs:
                    assert counts["dropped.queue"] == live - AT_ONCE - WAITING
                assert proxy.app.in_flight == 0
            assert proxy.one.under_way == 0, "what was under way at the end is accounted for"
            assert adds_up(proxy.one)
            if candidate.hangs:
                assert counts["dropped.stopped"] == AT_ONCE + WAITING

    run(test())


def test_a_busy_live_side_is_left_alone() -> None:
    async def test() -> None:
        async with (
            Scripted({"primary": Model(ttft=0.3), "candidate": PRIMARY}).serving() as there,
            rig(config(None, there.url, {"x": experiment(busy_above=1)})) as proxy,
        ):
            await asyncio.gather(*[proxy.ask(f"number {number}") for number in range(10)])
            await proxy.idle()
            assert proxy.one.counts["dropped.busy"] > 0
            assert there.asked["candidate"] == 10 - proxy.one.counts["dropped.busy"]

    run(test())


def test_what_waited_is_looked_at_again_before_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        models = {"primary": PRIMARY, "candidate": Model(valid=1.0, ttft=0.3)}
        async with (
            Scripted(models).serving() as there,
            rig(config(None, there.url, {"x": experiment()})) as proxy,
        ):
            await asyncio.gather(*[proxy.ask(f"number {number}") for number in range(AT_ONCE + 5)])
            assert proxy.app.mirror.waiting == AT_ONCE + 5
            monkeypatch.setattr(proxy.app.mirror._pressure, "too_high", lambda section: True)
            await proxy.idle()
            assert there.asked["candidate"] == AT_ONCE
            assert proxy.one.counts["dropped.busy"] == 5
            assert adds_up(proxy.one)

    run(test())


@pytest.mark.parametrize(("left", "own_key", "asked"), [(20, False, 0), (80, False, 5), (20, True, 5)])
def test_live_requests_keep_their_rate_limits(left: int, own_key: bool, asked: int) -> None:
    """A candidate behind a key that serves live requests, too, waits while little is left of its limits."""

    async def test() -> None:
        models = {"primary": Model(valid=1.0, limit=(100, left)), "candidate": PRIMARY}
        async with Scripted(models).serving() as there:
            providers = {
                "local": {"base_url": there.url, "api_key": "the live key"},
                "other": {"base_url": there.url, "api_key": "another key"},
            }
            told = experiment() | {"candidate": f"{'other' if own_key else 'local'}/candidate"}
            async with rig(config(None, there.url, {"x": told}, providers=providers)) as proxy:
                for number in range(5):
                    assert (await proxy.ask(f"number {number}")).status_code == 200
                    await proxy.idle()
                assert there.asked["candidate"] == asked
                assert proxy.one.counts.get("dropped.limit", 0) == 5 - asked
                assert adds_up(proxy.one)

    run(test())


def test_a_candidate_that_hangs_holds_up_no_other_experiment() -> None:
    async def test() -> None:
        models = {"primary": PRIMARY, "hanging": Model(hangs=True), "candidate": PRIMARY}
        async with Scripted(models).serving() as there:
            shadow = {"hanging": experiment("hanging"), "other": experiment()}
            async with rig(config(None, there.url, shadow)) as proxy:
                other = proxy.app.mirror.experiments["other"]
                for number in range(3 * AT_ONCE):
                    await proxy.ask(f"number {number}")
                await proxy.until(lambda: other.counts.get("completed") == 3 * AT_ONCE)
                assert proxy.app.mirror.waiting == 3 * AT_ONCE, "those that hang, and those behind them"

    run(test())


@pytest.mark.parametrize(("budget", "state"), [("per_day", State.RUNNING), ("total", State.BUDGET_EXHAUSTED)])
def test_a_hundred_at_once_spend_no_more_than_was_said(tmp_path: Path, budget: str, state: State) -> None:
    async def test() -> None:
        # A call costs 20 + 10 x 10 millionths, and the worst that is reserved is some ten times that.
        limits = {"per_day": "1 USD", "total": "1 USD"} | {budget: "0.003 USD"}
        async with (
            Scripted({"primary": PRIMARY, "candidate": Model(valid=1.0, ttft=0.02)}).serving() as there,
            rig(config(tmp_path, there.url, {"x": experiment(budget=limits)})) as proxy,
        ):
            await asyncio.gather(*[proxy.ask(f"number {number}") for number in range(100)])
            await proxy.idle()
            one = proxy.one
            assert one.budget.spent <= 0.003
            for number in range(30):
                await proxy.ask(f"later {number}")
                await proxy.idle()
            assert 10 < there.asked["candidate"] < 26
            assert one.budget.spent == pytest.approx(there.asked["candidate"] * 120e-6)
            assert one.budget.spent <= 0.003
            assert one.counts["dropped.budget"] + one.counts.get("dropped.stopped", 0) > 0
            assert one.state is state
            assert adds_up(one)

    run(test())


def test_turns_are_all_sent_and_one_is_scored(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            Scripted({"primary": PRIMARY, "candidate": PRIMARY}).serving() as there,
            rig(config(tmp_path, there.url, {"x": experiment(primary="validity")})) as proxy,
        ):
            for turn in range(3):
                for unit in ("a", "b"):
                    await proxy.ask(f"turn {turn}", {"x-weighbridge-unit": unit}, **JSON)
                    await proxy.idle()
            assert there.asked["candidate"] == 6
            assert (proxy.one.tally.units, proxy.one.counts["completed"]) == (2, 6)
        rows = Ledger(tmp_path / "exchanges.db").rows("SELECT unit, scored, live_id, shadow_id FROM v_shadow_pairs")
        assert [row["scored"] for row in rows] == [1, 1, 0, 0, 0, 0]
        assert len({row["unit"] for row in rows}) == 2
        exchanges = Ledger(tmp_path / "exchanges.db").rows("SELECT id, parent_id, origin, attempts FROM v_exchanges")
        shadows = {row["id"]: row["parent_id"] for row in exchanges if row["origin"] == "shadow"}
        assert shadows == {row["shadow_id"]: row["live_id"] for row in rows}
        assert all(row["attempts"] == 1 for row in exchanges)

    run(test())


def test_who_does_not_take_part(tmp_path: Path) -> None:
    async def test() -> None:
        keys = [{"name": "a", "key": "key-of-a"}, {"name": "b", "key": "key-of-b", "shadow": "never"}]
        async with Scripted({"primary": PRIMARY, "candidate": PRIMARY}).serving() as there:
            only = {"tags": ["search"], "tools": False, "max_bytes": 1000, "min_tokens": 1, "max_tokens": 100}
            async with rig(config(tmp_path, there.url, {"x": experiment(only=only)}, keys=keys)) as proxy:

                async def ask(
                    text: str = "hello", key: str = "key-of-a", tags: str = "search", no: str = "0", **more: Any
                ) -> None:
                    headers = {
                        "authorization": f"Bearer {key}",
                        "x-weighbridge-tags": tags,
                        "x-weighbridge-no-shadow": no,
                    }
                    assert (await proxy.ask(text, headers, **more)).status_code == 200
                    await proxy.idle()

                await ask()
                assert (proxy.one.counts["eligible"], there.asked["candidate"]) == (1, 1)
                await ask(key="key-of-b")
                await ask(tags="other")
                await ask(no="1")
                await ask(tools=[{"type": "function", "function": {"name": "f"}}])
                await ask(user="x" * 1000)
                await ask("x" * 500)
                await ask("")
                assert (proxy.one.counts["eligible"], there.asked["candidate"]) == (1, 1)

    run(test())


def test_a_failed_primary_is_a_pair_too(tmp_path: Path) -> None:
    async def test() -> None:
        routes = {"chat": {"targets": ["local/primary", "local/second"]}}
        models = {"primary": Model(errors=1.0), "second": PRIMARY, "candidate": PRIMARY}
        async with Scripted(models).serving() as there:
            told = config(tmp_path, there.url, {"x": experiment(primary="errors")}, routes=routes)
            async with rig(told) as proxy:
                assert (await proxy.ask("hello")).status_code == 200
                await proxy.idle()
                assert proxy.one.tally.counts["errors"] == {200: 1}
        (row,) = Ledger(tmp_path / "exchanges.db").rows("SELECT * FROM v_shadow_pairs")
        assert (row["primary_target"], row["primary_outcome"]) == ("local/primary", "upstream_error")
        assert (row["served_target"], row["served_outcome"]) == ("local/second", "ok")
        assert row["candidate_outcome"] == "ok"

    run(test())


def test_it_goes_on_after_a_restart(tmp_path: Path) -> None:
    async def test() -> None:
        models = {"primary": PRIMARY, "candidate": Model(valid=0.5), "other": PRIMARY}
        async with Scripted(models).serving() as there:
            told = config(tmp_path, there.url, {"x": experiment(primary={"kind": "validity", "margin": 0.9})})
            async with rig(told) as proxy:
                for number in range(12):
                    await proxy.ask(f"number {number}", **JSON)
                await proxy.idle()
                first = proxy.one
            async with rig(told) as proxy:
                again = proxy.one
                assert again.tally.counts == first.tally.counts
                assert again.tally.ratios["cost"] == pytest.approx(first.tally.ratios["cost"])
                assert (again.tally.units, again.seen, again.counts) == (12, first.seen, first.counts)
                assert again.budget.spent == pytest.approx(first.budget.spent)
                await proxy.ask("number 3", **JSON)
                await proxy.idle()
                assert again.tally.units == 12, "a unit is scored once for all time"
                assert there.asked["candidate"] == 13
            changed = config(tmp_path, there.url, {"x": experiment("other", primary="validity")})
            async with rig(changed) as proxy:
                assert proxy.one.tally.units == 0, "another candidate begins anew"
                assert proxy.one.budget.spent == pytest.approx(13 * 120e-6), "but the money is gone"

    run(test())


def test_what_was_lost_with_a_killed_process_is_counted(tmp_path: Path) -> None:
    async def test() -> None:
        async with Scripted({"primary": PRIMARY, "candidate": PRIMARY}).serving() as there:
            told = config(tmp_path, there.url, {"x": experiment()})
            async with rig(told) as proxy:
                await proxy.ask("hello")
                await proxy.idle()
                proxy.app.mirror._count(proxy.one, "eligible")
                proxy.app.mirror._count(proxy.one, "sampled")  # as if the process died before the pair was complete
            async with rig(told) as proxy:
                assert proxy.one.counts["dropped.restart"] == 1
                assert (proxy.one.under_way, adds_up(proxy.one)) == (0, True)

    run(test())


def test_several_processes_with_one_store_come_to_one_verdict(tmp_path: Path) -> None:
    """Each knows what the others found, scores no conversation that another has scored, and spends of one budget."""

    async def test() -> None:
        async with Scripted({"primary": PRIMARY, "candidate": PRIMARY}).serving() as there:
            told = config(tmp_path, there.url, {"x": experiment(primary={"kind": "validity", "margin": 0.9})})
            async with rig(told) as one, rig(told) as other:
                await one.ask("both", **JSON)
                await one.until(lambda: bool(Ledger(tmp_path / "exchanges.db").rows("SELECT 1 FROM shadow_pairs")))
                await one.until(lambda: all(each.app.mirror._sharing.begun for each in (one, other)))  # type: ignore[union-attr]
                for number in range(6):
                    await one.ask(f"one {number}", **JSON)
                    await other.ask(f"other {number}", **JSON)
                for proxy in (one, other):
                    await proxy.until(lambda proxy=proxy: proxy.one.tally.units == 13)  # type: ignore[misc]
                await other.ask("both", **JSON)
                await other.idle()
                for proxy in (one, other):
                    await proxy.until(lambda proxy=proxy: proxy.one.counts.get("completed") == 14)  # type: ignore[misc]
                    assert proxy.one.tally.units == 13
                    assert proxy.one.tally.counts["validity"] == {100: 13}
                    assert proxy.one.budget.spent == pytest.approx(14 * 120e-6)
                    assert adds_up(proxy.one)
        (row,) = Ledger(tmp_path / "exchanges.db").rows(
            "SELECT sum(scored) AS units, count(*) AS pairs FROM shadow_pairs"
        )
        assert row == {"units": 13, "pairs": 14}

    run(test())


def test_what_is_not_stored_yet_is_not_lost_in_a_merge(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            Scripted({"primary": PRIMARY, "candidate": PRIMARY}).serving() as there,
            rig(config(tmp_path, there.url, {"x": experiment(primary="validity")})) as proxy,
        ):
            mirror, one = proxy.app.mirror, proxy.one
            await mirror._write()
            known = Ledger(tmp_path / "exchanges.db").restore("x", one.terms.version, mirror.day())
            await proxy.ask("hello", **JSON)
            await proxy.idle()
            one.merge(known, mirror._batch, mirror.day())
            assert (one.tally.units, one.counts["completed"]) == (1, 1)
            assert (one.budget.spent, one.budget.spent_today) == pytest.approx((120e-6, 120e-6))
            assert adds_up(one)
            # Another process's pair, which was taken for lost when this one began, was completed after all.
            mirror._count(one, "dropped.restart")
            assert mirror._sharing is not None
            mirror._sharing._left = 9
            await mirror._merge()
            assert one.counts["dropped.restart"] == 0
            assert (one.under_way, adds_up(one)) == (0, True)

    run(test())


def test_it_heeds_what_the_command_line_notes(tmp_path: Path) -> None:
    from proxy.cli import main

    async def test() -> None:
        async with (
            Scripted({"primary": PRIMARY, "candidate": PRIMARY}).serving() as there,
            rig(config(tmp_path, there.url, {"x": experiment(primary="validity")})) as proxy,
        ):
            store = ["--store", str(tmp_path / "exchanges.db")]
            await proxy.until(lambda: bool(Ledger(tmp_path / "exchanges.db").events(0)))
            assert await asyncio.to_thread(main, ["shadow", "pause", "x", *store]) == 0
            await proxy.until(lambda: proxy.one.paused)
            await proxy.ask("hello")
            assert proxy.one.counts["dropped.paused"] == 1
            assert await asyncio.to_thread(main, ["shadow", "resume", "x", *store]) == 0
            await proxy.until(lambda: not proxy.one.paused)
            assert await asyncio.to_thread(main, ["shadow", "stop", "x", *store]) == 0
            await proxy.until(lambda: proxy.one.stopped)
            await proxy.ask("hello again")
            assert proxy.one.state is State.INCONCLUSIVE
            assert there.asked["candidate"] == 0
            assert await asyncio.to_thread(main, ["shadow", "stop", "y", *store]) == 2

    run(test())


def test_a_judge_decides(tmp_path: Path) -> None:
    async def test() -> None:
        models = {"primary": Model(valid=0.4), "candidate": Model(valid=1.0), "judge": Model(judges=True)}
        async with Scripted(models).serving() as there:
            judge = {"kind": "judge", "model": "local/judge", "margin": 0.2}
            told = experiment(primary=judge, guardrails=["errors"], budget={"per_day": "100 USD", "total": "100 USD"})
            async with rig(config(tmp_path, there.url, {"x": told})) as proxy:
                for number in range(30):
                    await proxy.ask(f"number {number}")
                await proxy.idle()
                assert there.asked["judge"] == 60, "in both orders"
                counts = proxy.one.tally.counts["judge"]
                assert set(counts) == {100, 150}, "ties and wins"
                assert sum(counts.values()) == 30
                spent = proxy.one.budget.spent
        (row,) = Ledger(tmp_path / "exchanges.db").rows("SELECT sum(spent_usd) AS usd FROM v_shadow_pairs")
        assert row["usd"] == pytest.approx(spent)
        assert spent == pytest.approx(90 * 120e-6), "the judge's calls are paid from the same budget"

    run(test())


def test_the_primary_is_asked_again_for_the_noise(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            Scripted({"primary": PRIMARY, "candidate": PRIMARY}).serving() as there,
            rig(config(tmp_path, there.url, {"x": experiment(noise=0.5)})) as proxy,
        ):
            for number in range(40):
                await proxy.ask(f"number {number}")
            await proxy.idle()
            again = there.asked["primary"] - 40
            assert 8 <= again <= 32
        rows = Ledger(tmp_path / "exchanges.db").rows(
            "SELECT count(*) AS n, count(primary_score) AS noise FROM v_shadow_scores WHERE metric = 'same_text'"
        )
        assert rows == [{"n": 40, "noise": again}]

    run(test())


def test_a_judge_before_two_answers_of_the_primary_is_centred(tmp_path: Path) -> None:
    async def test() -> None:
        models = {"primary": Model(valid=0.5), "candidate": PRIMARY, "judge": Model(judges=True)}
        async with Scripted(models).serving() as there:
            judge = {"kind": "judge", "model": "local/judge"}
            told = experiment(primary=judge, noise=1.0, budget={"per_day": "100 USD", "total": "100 USD"})
            async with rig(config(tmp_path, there.url, {"x": told})) as proxy:
                for number in range(20):
                    await proxy.ask(f"number {number}")
                await proxy.idle()
                assert there.asked["judge"] == 80, "both orders, of both pairs"
                assert proxy.one.tally.counts["judge_again"] == {100: 20}
                assert proxy.one.budget.spent == pytest.approx(120 * 120e-6)

    run(test())


def test_meanings_are_compared_by_any_embeddings_and_for_money_of_their_own(tmp_path: Path) -> None:
    metric = "same_meaning (local/embeddings)"

    async def test() -> None:
        models = {"primary": PRIMARY, "candidate": Model(valid=0.5), "embeddings": Model(tokens=20)}
        async with Scripted(models).serving() as there:
            # A call costs 20 millionths, and 400 are reserved.
            similarity = {"model": "local/embeddings", "budget": {"per_day": "0.0006 USD"}}
            told = config(tmp_path, there.url, {"x": experiment(similarity=similarity)})
            async with rig(told) as proxy:
                for number in range(20):
                    await proxy.ask(f"number {number}")
                    await proxy.idle()
                assert 5 < there.asked["embeddings"] < 15, "then its part is used up, and pairs go on"
                spent = proxy.one.purse.similarity.spent
                assert spent == pytest.approx(there.asked["embeddings"] * 20e-6)
                assert proxy.one.counts["completed"] == 20
                assert proxy.one.budget.spent == pytest.approx(20 * 120e-6 + spent)
            async with rig(told) as proxy:
                assert proxy.one.purse.similarity.spent_today == pytest.approx(spent), "after a restart, too"
        rows = Ledger(tmp_path / "exchanges.db").rows(
            "SELECT candidate_score, bin FROM v_shadow_scores WHERE metric = ?", (metric,)
        )
        assert {round(row["candidate_score"], 3) for row in rows} == {0.5, 1.0}
        assert {row["bin"] for row in rows} == {None}, "it decides nothing"

    run(test())


def test_a_judge_has_its_own_part_of_the_money(tmp_path: Path) -> None:
    async def test() -> None:
        models = {"primary": PRIMARY, "candidate": PRIMARY, "judge": Model(judges=True)}
        for limit, state in (("per_day", State.RUNNING), ("total", State.BUDGET_EXHAUSTED)):
            async with Scripted(models).serving() as there:
                # Two calls cost 240 millionths; some 21 thousandths are reserved for them.
                judge = {"kind": "judge", "model": "local/judge", "budget": {limit: "0.022 USD"}}
                told = experiment(primary=judge, budget={"per_day": "100 USD", "total": "100 USD"})
                async with rig(config(None, there.url, {"x": told})) as proxy:
                    for number in range(10):
                        await proxy.ask(f"number {number}")
                        await proxy.idle()
                    assert 0 < there.asked["judge"] < 20
                    assert there.asked["judge"] == 2 * there.asked["candidate"], "none is sent that cannot be judged"
                    assert proxy.one.state is state
                    assert proxy.one.purse.judge.spent <= 0.022

    run(test())


@pytest.mark.parametrize("where", ["candidate", "route", "served"])
def test_what_an_experiment_lets_the_candidate_say_is_reserved(where: str) -> None:
    """A limit that is not the request's own may be spent; without any, what the served answer took, and more."""

    async def test() -> None:
        primary = Model(valid=1.0, tokens=3000 if where == "served" else 10)
        async with Scripted({"primary": primary, "candidate": PRIMARY}).serving() as there:
            told = experiment(budget={"per_day": "0.01 USD"})
            routes = {"chat": {"targets": ["local/primary"]}}
            if where == "candidate":
                told["candidate"] = {"target": "local/candidate", "force": {"max_tokens": 1001}}
            elif where == "route":
                routes["chat"]["force"] = {"max_tokens": 1001}  # type: ignore[assignment]
            else:
                told["budget"] = {"per_day": "0.042 USD"}  # 4,096 tokens would be 0.041 USD
            async with rig(config(None, there.url, {"x": told}, routes=routes)) as proxy:
                await proxy.ask("hello", **({"max_tokens": None} if where == "served" else {}))
                await proxy.idle()
                assert proxy.one.counts["dropped.budget"] == 1
                assert there.asked["candidate"] == 0

    run(test())


def test_a_store_that_fails_costs_pairs_no_requests(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            Scripted({"primary": PRIMARY, "candidate": PRIMARY}).serving() as there,
            rig(config(tmp_path, there.url, {"x": experiment()})) as proxy,
        ):
            proxy.app.mirror._ledger = Ledger(tmp_path / "no" / "such" / "folder.db")
            assert (await proxy.ask("hello")).status_code == 200
            await proxy.idle()
            await proxy.app.mirror._write()
            assert len(proxy.app.mirror._batch.pairs) == 1
            proxy.app.mirror._ledger = Ledger(tmp_path / "exchanges.db")
        assert len(Ledger(tmp_path / "exchanges.db").rows("SELECT 1 FROM v_shadow_pairs")) == 1

    run(test())


def test_an_experiment_is_made_over_the_api_and_survives(tmp_path: Path) -> None:
    async def test() -> None:
        async with Scripted({"primary": PRIMARY, "candidate": PRIMARY}).serving() as there:
            told = config(tmp_path, there.url, {})
            async with rig(told) as proxy:
                post = proxy.client.post
                for wrong in (
                    {},
                    {"name": "x", "route": "chat"},
                    {"name": "x", **experiment(), "route": "other"},
                    {"name": "x", **experiment(), "candidate": "nowhere/b"},
                    {"name": "x", **experiment(primary="validty")},
                    {"name": "a:b", **experiment()},
                ):
                    answer = await post("/api/shadow", json=wrong)
                    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
                assert (await post("/api/shadow", json={"name": "x", **experiment()})).status_code == 200
                assert (await post("/api/shadow", json={"name": "x", **experiment()})).status_code == 400
                await proxy.ask("hello")
                await proxy.idle()
                assert proxy.one.counts["completed"] == 1
            async with rig(told) as proxy:
                assert proxy.one.counts["completed"] == 1
                await proxy.ask("hello again")
                await proxy.idle()
                assert proxy.one.tally.units == 2

    run(test())


def test_a_config_loaded_anew_goes_on(tmp_path: Path) -> None:
    async def test() -> None:
        async with Scripted({"primary": PRIMARY, "candidate": Model(valid=1.0, ttft=0.2)}).serving() as there:
            told = config(tmp_path, there.url, {"x": experiment(primary="validity")})
            async with rig(told) as proxy:
                await proxy.ask("one", **JSON)
                before = proxy.one
                told["shadow"]["x"]["rate"] = 0.0
                proxy.load(told)
                assert proxy.one is not before
                await proxy.idle()
                assert proxy.one.tally.units == 1, "what was under way is counted"
                assert proxy.one.budget.spent == pytest.approx(120e-6)
                await proxy.ask("two", **JSON)
                assert (proxy.one.counts["unsampled"], there.asked["candidate"]) == (1, 1)

    run(test())


@pytest.mark.parametrize("restarted", [False, True])
def test_more_money_opens_it_again(tmp_path: Path, restarted: bool) -> None:
    async def test() -> None:
        async with Scripted({"primary": PRIMARY, "candidate": PRIMARY}).serving() as there:

            def told(usd: str) -> dict[str, Any]:
                return config(tmp_path, there.url, {"x": experiment(primary="validity", budget={"total": usd})})

            async with rig(told("0.0012 USD")) as proxy:
                for number in range(4):
                    await proxy.ask(f"number {number}", **JSON)
                    await proxy.idle()
                assert proxy.one.state is State.BUDGET_EXHAUSTED
                before = proxy.one.tally.units
                assert 0 < before < 4
                if not restarted:
                    proxy.load(told("5 USD"))
                    await proxy.ask("more", **JSON)
                    await proxy.idle()
                    assert (proxy.one.state, proxy.one.tally.units) == (State.RUNNING, before + 1)
                    return
            async with rig(told("0.0012 USD")) as proxy:
                assert proxy.one.state is State.BUDGET_EXHAUSTED
            async with rig(told("5 USD")) as proxy:
                await proxy.ask("more", **JSON)
                await proxy.idle()
                await proxy.app.mirror._hear()
                assert (proxy.one.state, proxy.one.tally.units) == (State.RUNNING, before + 1)

    run(test())


def test_feedback_and_actions_over_http(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            Scripted({"primary": PRIMARY, "candidate": PRIMARY}).serving() as there,
            rig(config(tmp_path, there.url, {"x": experiment()})) as proxy,
        ):
            id = (await proxy.ask("hello")).headers["x-request-id"]
            await proxy.idle()
            assert proxy.app.store is not None
            await asyncio.to_thread(proxy.app.store.flush)
            post = proxy.client.post
            assert (await post("/api/feedback", json={"id": id, "score": 0.8})).status_code == 200
            for wrong in ({"id": id, "score": 2}, {"id": id, "score": True}, {"score": 1}, [], {"id": id}):
                assert (await post("/api/feedback", json=wrong)).status_code == 400
            assert (await post("/api/feedback", json={"id": "req_0", "score": 1})).status_code == 404
            foreign = {"origin": "https://elsewhere.example"}
            assert (await post("/api/shadow/x", json={"action": "stop"}, headers=foreign)).status_code == 403
            assert (await post("/api/shadow/x", json={"action": "explode"})).status_code == 400
            assert (await post("/api/shadow/y", json={"action": "stop"})).status_code == 404
            assert (await post("/api/shadow/x", json={"action": "pause"})).json()["state"] == "paused"
        (row,) = Ledger(tmp_path / "exchanges.db").rows("SELECT primary_feedback FROM v_shadow_pairs")
        assert row["primary_feedback"] == 0.8

    run(test())
