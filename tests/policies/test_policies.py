"""The tables that policies share, and what follows a failure."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from policies.retry import PATIENCE, FailoverOn, Limits, Tries
from policies.verdict import VERDICTS, Failover, Health, Kind, Outcome


def test_every_kind_has_a_verdict_and_every_outcome_a_kind() -> None:
    assert set(VERDICTS) == set(Kind)
    assert {verdict.outcome for verdict in VERDICTS.values()} | {Outcome.NO_TARGET} == set(Outcome)


def test_the_clients_own_doing_is_never_held_against_a_target() -> None:
    for kind in (Kind.BAD_REQUEST, Kind.CONTEXT_LENGTH, Kind.CONTENT_FILTER, Kind.DOWNSTREAM_CLOSED, Kind.INTERNAL):
        assert VERDICTS[kind].health is Health.NEUTRAL


def test_nothing_is_tried_again_after_content() -> None:
    for kind in (Kind.TRUNCATED, Kind.STALL):
        assert (VERDICTS[kind].again, VERDICTS[kind].failover) == (0, Failover.NO)


@given(
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(1, 8),
    st.lists(st.sampled_from(list(Kind)), min_size=1, max_size=20),
    st.floats(0.0, 100.0),
    st.integers(0, 2**32),
)
def test_limits_hold_whatever_fails(
    targets: int, per_target: int, per_request: int, kinds: list[Kind], wait: float, seed: int
) -> None:
    tries = Tries([None] * targets, Limits(per_target, per_request), FailoverOn(True, True, True))
    rng, counts, target = Random(seed), [0] * targets, 0
    for kind in kinds:
        tries.begun(target)
        counts[target] += 1
        step = tries.next(target, kind, wait, 50.0, rng)
        if step is None:
            break
        assert 0.0 <= step.delay < 50.0
        assert step.delay <= PATIENCE + 0.1
        if counts[step.target] == 0:
            assert step.delay == 0.0
        target = step.target
    assert max(counts) <= per_target
    assert sum(counts) <= per_request


def test_no_time_left_means_no_further_try() -> None:
    tries = Tries([None, None], Limits(), FailoverOn())
    tries.begun(0)
    assert tries.next(0, Kind.CONNECT, None, 0.0, Random(1)) is None


def test_a_replayed_request_counts_as_two_tries() -> None:
    tries = Tries([None], Limits(2, 4), FailoverOn())
    tries.begun(0, 2)
    assert tries.next(0, Kind.CONNECT, None, 60.0, Random(1)) is None


def test_pauses_grow_and_are_drawn_from_nothing_up() -> None:
    drawn = []
    for seed in range(200):
        tries = Tries([None], Limits(2, 4), FailoverOn())
        tries.begun(0)
        step = tries.next(0, Kind.SERVER_ERROR, None, 60.0, Random(seed))
        assert step is not None
        drawn.append(step.delay)
    assert 0.0 <= min(drawn) < 0.01 < 0.09 < max(drawn) <= 0.1


def test_a_request_may_be_sent_again_only_where_the_limits_leave_room_for_it() -> None:
    tries = Tries([None, None], Limits(2, 4), FailoverOn())
    assert tries.may_replay(0)
    tries.begun(0)
    assert not tries.may_replay(0)
    assert tries.may_replay(1)
    tries.begun(1, 2)
    assert not tries.may_replay(0)
    assert not Tries([None], Limits(1, 4), FailoverOn()).may_replay(0)
