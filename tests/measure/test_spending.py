"""What budgets are charged: by the record, and by the store that was read again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.verdict import Kind
from proxy.measure.spending import assumed_usd, charged_usd
from proxy.measure.store import rollups, rows, writer
from proxy.record import Attempt, Exchange
from proxy.wire.usage import Usage
from tests.measure.records import attempt, exchange, streamed, used


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(writer.connect(tmp_path / "store.db")) as opened:
        yield opened


def test_what_has_a_price_is_not_assumed() -> None:
    one = used(attempt())
    one.cost_usd = 0.0
    assert assumed_usd(one) == 0.0


def test_tokens_without_a_price_are_dear() -> None:
    assert assumed_usd(used(attempt(), Usage(600_000, 300_000, 100_000, 8_000, 2_000))) == pytest.approx(20.0 + 1.0)


def test_an_answer_that_nobody_counted_is_charged_by_its_size() -> None:
    streamed_one = streamed(attempt(), gaps_ms=(10.0,) * 9)
    streamed_one.request_bytes = 4_000
    assert assumed_usd(streamed_one) == pytest.approx(1_000 * 20e-6 + 10 * 100e-6)
    whole = attempt()
    whole.request_bytes, whole.answer_bytes = 4_000, 400
    assert assumed_usd(whole) == pytest.approx(1_000 * 20e-6 + 100 * 100e-6)


@pytest.mark.parametrize(
    ("kind", "charged"),
    [
        (Kind.DOWNSTREAM_CLOSED, True), (Kind.SUPERSEDED, True), (Kind.STALL, True), (Kind.TRUNCATED, True),
        (Kind.CONNECT, False), (Kind.SERVER_ERROR, False), (Kind.RATE_LIMIT, False), (Kind.TIMEOUT, False),
        (Kind.BAD_REQUEST, False),
    ],
)  # fmt: skip
def test_who_leaves_pays_and_who_got_nothing_does_not(kind: Kind, charged: bool) -> None:
    one = attempt(kind=kind)
    one.request_bytes = 4_000
    assert (assumed_usd(one) > 0) is charged
    one.marks.sent = 0
    assert assumed_usd(one) == 0.0


@st.composite
def attempts(draw: st.DrawFn) -> Attempt:
    made = attempt(kind=draw(st.sampled_from(Kind)))
    if draw(st.booleans()):
        made = streamed(made, gaps_ms=tuple(draw(st.lists(st.floats(1, 50), max_size=5))))
    if draw(st.booleans()):
        tokens = st.integers(0, 10_000)
        made = used(made, Usage(*(draw(tokens) for _ in range(5))))
    made.cost_usd = draw(st.none() | st.floats(0, 10))
    made.marks.sent = draw(st.sampled_from([0, made.marks.sent]))
    made.request_bytes, made.answer_bytes = draw(st.integers(0, 9_999)), draw(st.integers(0, 9_999))
    return made


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(told=st.lists(st.lists(attempts(), max_size=3), min_size=1, max_size=20))
def test_the_store_says_the_same(connection: sqlite3.Connection, told: list[list[Attempt]]) -> None:
    made: list[Exchange] = []
    for tries in told:
        for number, one in enumerate(tries, 1):
            one.no = number
        made.append(exchange(*tries))
    connection.execute("DELETE FROM rollups")
    text = rows.Timestamps().text
    with writer._transaction(connection) as newest:
        for n, one in enumerate(made, newest + 1):
            connection.execute(rows.INSERT_EXCHANGE, rows.exchange_row(n, one, text(one.at)))
            connection.executemany(rows.INSERT_ATTEMPT, [rows.attempt_row(n, a, one.stream) for a in one.attempts])
    while rollups.roll_up(connection, 7):
        pass
    ((spent,),) = connection.execute("SELECT sum(cost_usd + assumed_usd) FROM v_rollups WHERE span = 'day'").fetchall()
    assert spent == pytest.approx(sum(charged_usd(one) for one in made))
