"""What routes learn from their records, and that it survives a restart."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from policies.bandit import Bandit
from policies.base import Candidate
from policies.canary import Canary
from policies.cheapest import Cheapest
from policies.conditional import Conditional, Rule
from policies.fastest import Fastest
from policies.ordered import Ordered
from policies.rollout import Status
from policies.verdict import VERDICTS, Kind
from policies.weighted import Weighted
from proxy.learned import Learner, Learners, learner_for
from proxy.measure.store.writer import StoreSink
from proxy.record import Attempt, Decision, Exchange, Origin
from proxy.wire.usage import Usage

AT = 1_790_000_000.0


class Priced:
    """What a learner asks of a target."""

    def __init__(self, fresh: float = 2.0, cached: float = 0.2) -> None:
        self.fresh, self.cached = fresh, cached

    def prices(self, hits: float = 0.0) -> tuple[float, float]:
        return self.fresh + hits * (self.cached - self.fresh), 8.0


def exchange(
    target: str = "a", kind: Kind = Kind.OK, took: float = 0.5, at: float = AT, unit: str = "u", **more: Any
) -> Exchange:
    made = Exchange("req_1", at, 1)
    made.route = "chat"
    made.decision = Decision("x", 1.0, (target, "other"), unit=unit)
    attempt = Attempt(1, target, "p", "m", 1)
    attempt.kind, attempt.outcome = kind, VERDICTS[kind].outcome
    attempt.marks.sent = 1_000_000_000
    if kind is Kind.OK:
        attempt.marks.first_content = 1_000_000_000 + round(took * 1e9)
    attempt.usage = more.get("usage")
    made.attempts.append(attempt)
    return made


def learner(policy: Any) -> Learner:
    made = learner_for("chat", policy)
    assert made is not None
    return made


def filled(one: Learner, now: float = AT, *names: str) -> list[Candidate]:
    given = [Candidate(name) for name in names or ("a", "b")]
    return one.fill(given, [Priced() for _ in given], now)  # type: ignore[misc]


@pytest.mark.parametrize("policy", [Ordered(), Weighted(), Fastest(), Conditional((Rule(policy=Fastest()),))])
def test_what_learns_nothing_has_no_learner(policy: Any) -> None:
    assert learner_for("chat", policy) is None


@pytest.mark.parametrize("policy", [Fastest(quantile=0.9), Cheapest(), Canary("a"), Bandit()])
def test_what_learns_has_one_also_within_rules(policy: Any) -> None:
    assert learner_for("chat", policy) is not None
    assert learner_for("chat", Conditional((Rule(policy=policy),))) is not None
    assert learner_for("chat", Conditional((), policy)) is not None


def test_rewards_fade_and_the_clients_doing_is_no_reward() -> None:
    one = learner(Bandit(discount=0.5))
    for kind in (Kind.OK, Kind.SERVER_ERROR, Kind.DOWNSTREAM_CLOSED, Kind.BAD_REQUEST):
        one.accept(exchange("a", kind))
    assert one.rewards == {"a": (0.5, 1.0)}
    one.accept(exchange("b"))
    assert one.rewards == {"a": (0.25, 0.5), "b": (1.0, 0.0)}
    assert [candidate.posterior for candidate in filled(one)] == [(1.25, 1.5), (2.0, 1.0)]


def test_feedback_may_be_the_reward() -> None:
    learners = Learners()
    one = learners.learner("chat", Bandit(reward="feedback", discount=1.0))
    assert one is not None
    for id, target, kind in (("r1", "a", Kind.OK), ("r2", "b", Kind.OK), ("r3", "b", Kind.TIMEOUT)):
        made = exchange(target, kind)
        made.id = id
        learners.accept(made)
    assert one.rewards == {"b": (0.0, 1.0)}
    for id, score in (("r1", 0.75), ("r1", 0.0), ("r3", 1.0), ("r9", 1.0)):
        learners.liked(id, score)
    assert one.rewards == {"b": (0.0, 1.0), "a": (0.75, 0.25)}


def test_a_reward_may_depend_on_time() -> None:
    one = learner(Bandit(slo=1.0))
    one.accept(exchange("a", took=0.9))
    one.accept(exchange("a", took=1.1))
    good, bad = one.rewards["a"]
    assert (round(good, 2), round(bad, 2)) == (1.0, 1.0)


def test_latencies_count_failures_as_slow_and_fade_while_nobody_asks() -> None:
    one = learner(Cheapest(slo=1.0))
    for kind, took in ((Kind.OK, 0.5), (Kind.OK, 2.0), (Kind.SERVER_ERROR, 0.01), (Kind.BAD_REQUEST, 0.01)):
        one.accept(exchange("a", kind, took))
    latency = filled(one)[0].latency
    assert latency is not None
    assert latency.beyond(1.0) == pytest.approx((2.0, 3.0))
    later = filled(one, AT + 600.0)[0].latency
    assert later is not None
    assert later.beyond(1.0)[1] < 0.5
    assert filled(one)[1].latency is None


def test_the_price_is_what_our_own_cache_hits_make_it() -> None:
    one = learner(Cheapest())
    assert filled(one)[0].input_price == 2.0
    for _ in range(5):
        one.accept(exchange("a", usage=Usage(25, 75, 0, 10, 0)))
    assert filled(one)[0].input_price == pytest.approx(2.0 - 0.75 * 1.8)
    assert filled(one)[1].input_price == 2.0


def test_a_canary_starts_at_its_first_step_and_harm_ends_it() -> None:
    one = learner(Canary("b", steps=(0.1, 1.0), hold=0.0))
    assert [candidate.share for candidate in filled(one)] == [None, 0.1]
    for at in range(3000):
        one.accept(exchange("a", unit=f"a{at}", at=AT + at))
        one.accept(exchange("b", Kind.SERVER_ERROR if at % 3 else Kind.OK, unit=f"b{at}", at=AT + at))
    assert filled(one)[1].share == 0.0
    assert one.rollout is not None
    assert one.rollout.status is Status.HARM
    assert [audit.event.event for audit in one.audits] == ["started", "rolled_back"]


def test_a_canary_counts_the_side_that_was_dealt_and_all_its_credentials() -> None:
    one = learner(Canary("b"))
    one.accept(exchange("b#2", unit="u1"))
    turned = exchange("a", unit="u2")
    turned.decision = Decision("x", 1.0, ("b", "a"), unit="u2")
    one.accept(turned)
    one.accept(exchange("a", unit="u3"))
    assert one.rollout is not None
    assert one.rollout.units == 1


def test_an_open_breaker_hides_no_failure_of_a_canary() -> None:
    one = learner(Canary("b", steps=(0.5, 1.0)))
    for at in range(400):
        made = exchange("a", unit=f"u{at}")
        made.decision = Decision("x", 1.0, ("a",), (("b", "breaker_open"),), unit=f"u{at}")
        one.accept(made)
    assert one.rollout is not None
    assert one.rollout.status is Status.HARM
    idle = learner(Canary("b", steps=(0.5, 1.0)))
    for at in range(400):
        made = exchange("a", unit=f"u{at}")
        made.decision = Decision("x", 1.0, ("a",), (("b", "rate_limit"),), unit=f"u{at}")
        idle.accept(made)
    assert idle.rollout is not None
    assert (idle.rollout.status, idle.rollout.units) == (Status.RUNNING, 0)


def test_a_reload_keeps_what_the_same_policy_learned() -> None:
    learners = Learners()
    first = learners.learner("chat", Bandit())
    assert learners.learner("chat", Bandit()) is first
    assert learners.learner("chat", Bandit(discount=0.9)) is not first
    assert learners.learner("chat", Ordered()) is None
    assert learners.by_route == {}


def test_only_live_exchanges_of_the_route_are_learned_from() -> None:
    learners = Learners()
    one = learners.learner("chat", Bandit())
    assert one is not None
    shadow = exchange("a")
    shadow.origin = Origin.SHADOW
    other = exchange("a")
    other.route = "other"
    for made in (shadow, other):
        learners.accept(made)
    assert one.rewards == {}
    learners.accept(exchange("a"))
    assert one.rewards == {"a": (1.0, 0.0)}


def test_a_restart_forgets_nothing_and_the_audit_is_in_the_store(tmp_path: Path) -> None:
    store = StoreSink.open(tmp_path / "w.db")
    policy = Canary("b", steps=(0.1, 0.5, 1.0), hold=0.0)
    learners = Learners(store.path)
    before = learners.learner("chat", policy)
    assert before is not None
    for at in range(400):
        for target in "ab":
            before.accept(exchange(target, unit=f"{target}{at}", at=AT + at))
    asyncio.run(learners.write())
    assert before.rollout is not None
    again = Learners(store.path).learner("chat", policy)
    other = Learners(store.path).learner("chat", Canary("b", steps=(0.2, 1.0)))
    assert again is not None
    assert again.rollout is not None
    assert again.rollout.shown() == before.rollout.shown()
    assert other is not None
    assert other.rollout is None, "another policy starts anew"
    with sqlite3.connect(store.path) as connection:
        rows = connection.execute("SELECT route, candidate, event, share FROM v_rollouts ORDER BY event_no").fetchall()
    assert rows[:2] == [("chat", "b", "started", 0.1), ("chat", "b", "advanced", 0.5)]
    assert store.close()


def test_a_store_that_fails_loses_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = StoreSink.open(tmp_path / "w.db")
    learners = Learners(store.path)
    one = learners.learner("chat", Canary("b", patience=1e9))
    assert one is not None
    one.accept(exchange("b"))
    learners._path = tmp_path / "missing" / "w.db"
    asyncio.run(learners.write())
    assert "could not be written" in caplog.text
    assert (len(one.audits), one.dirty) == (1, True)
    learners._path = store.path
    asyncio.run(learners.write())
    assert (one.audits, one.dirty) == ([], False)
    assert store.close()
