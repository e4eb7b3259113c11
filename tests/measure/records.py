"""Sealed exchanges to measure: one of a known shape, and any that could occur."""

from __future__ import annotations

from hypothesis import strategies as st

from policies.verdict import VERDICTS, Kind, Outcome
from proxy.record import Attempt, Decision, Exchange, Gaps, Marks, Origin
from proxy.wire.trace import Trace
from proxy.wire.usage import Parts, Usage

MS = 1_000_000
SECOND = 1_000 * MS
T0 = 77_000 * SECOND
AT = 1_790_000_000.5

TARGETS = ("openai/gpt", "anthropic/haiku", "local/llama")
ROUTES = {"chat": list(TARGETS), "code": [TARGETS[0]]}


def attempt(
    target: str = TARGETS[0], kind: Kind = Kind.OK, no: int = 1, begun_ms: float = 0.1, end_ms: float = 100.0
) -> Attempt:
    """Sent 0.1 ms after it was begun; without content."""
    provider, _, model = target.partition("/")
    made = Attempt(no, target, provider, model, T0 + round(begun_ms * MS))
    made.kind, made.outcome = kind, VERDICTS[kind].outcome
    made.marks.sent = made.marks.received + MS // 10
    made.marks.end = T0 + round(end_ms * MS)
    made.status = 200 if kind is Kind.OK else None
    return made


def streamed(made: Attempt, first_ms: float = 40.0, gaps_ms: tuple[float, ...] = (10.0, 20.0, 30.0)) -> Attempt:
    """With content from `first_ms` on, one chunk after each gap."""
    made.gaps = Gaps()
    made.gaps.chunks = 1 + len(gaps_ms)
    for gap in gaps_ms:
        made.gaps.add(round(gap * MS))
    made.marks.headers = made.marks.first_byte = made.marks.first_content = T0 + round(first_ms * MS)
    made.marks.last_content = made.marks.first_content + round(sum(gaps_ms) * MS)
    return made


USAGE = Usage(70, 20, 10, 8, 3)


def used(made: Attempt, usage: Usage = USAGE) -> Attempt:
    made.usage, made.usage_source = usage, "provider"
    return made


def exchange(
    *attempts: Attempt,
    id: str = "req_1",
    route: str | None = "chat",
    stream: bool = False,
    operation: str = "chat",
    outcome: Outcome | None = None,
    end_ms: float = 101.0,
    answered: bool | None = None,
) -> Exchange:
    """Ends as its last attempt did, which is the winner if it went well (or `answered`)."""
    made = Exchange(id, AT, T0)
    made.route, made.model, made.stream = route, route or "gone/model", stream
    made.operation = operation
    made.attempts.extend(attempts)
    if attempts:
        last = attempts[-1]
        made.kind, made.outcome = last.kind, last.outcome
        made.winner = last if (last.kind is Kind.OK if answered is None else answered) else None
    if outcome is not None:
        made.outcome = outcome
        made.kind = next((kind for kind, verdict in VERDICTS.items() if verdict.outcome is outcome), Kind.INTERNAL)
    made.status = 200 if made.outcome is Outcome.OK else 500
    made.marks.end = T0 + round(end_ms * MS)
    return made


# -- any exchange

TRACE = Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "01")
_texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
_maybe_texts = st.none() | _texts
_bytes = st.integers(0, 1 << 40)
_seconds = st.none() | st.floats(0, 1000)
_tokens = st.integers(0, 1 << 30)
_parts = st.builds(Parts, *[_tokens] * 7, _seconds, st.sampled_from([None, "flex", "fast+us"]))
_gap = st.one_of(st.integers(0, MS), st.integers(0, SECOND), st.integers(0, 100 * SECOND))


@st.composite
def any_marks(draw: st.DrawFn, received: int) -> Marks:
    """In order; any but the begin and the end may never have come."""
    moments = sorted(received + offset for offset in draw(st.lists(_gap, min_size=6, max_size=6)))
    for never in draw(st.sets(st.integers(0, 4))):
        moments[never] = 0
    marks = Marks(received)
    marks.sent, marks.headers, marks.first_byte, marks.first_content, marks.last_content, marks.end = moments
    marks.first_answer = draw(st.sampled_from([0, marks.first_content, marks.last_content]))
    return marks


@st.composite
def any_gaps(draw: st.DrawFn) -> Gaps:
    gaps = Gaps()
    for gap, more in draw(st.lists(st.tuples(_gap, st.integers(0, 3)), max_size=30)):
        gaps.add(gap, more)
        gaps.chunks += 1 + more
    return gaps


@st.composite
def any_attempt(draw: st.DrawFn, no: int) -> Attempt:
    made = attempt(draw(st.sampled_from([*TARGETS, "openai/named-by-a-client"])), draw(st.sampled_from(Kind)), no)
    made.marks = draw(any_marks(T0 + draw(_gap)))
    made.gaps = draw(st.none() | any_gaps())
    made.usage = draw(st.none() | st.builds(Usage, *[_tokens] * 5, st.none() | _parts))
    made.price_version = draw(_maybe_texts)
    made.response_model, made.upstream_id, made.finish_reason = draw(st.tuples(*[_maybe_texts] * 3))
    made.usage_source, made.cost_source = draw(st.tuples(_maybe_texts, _maybe_texts))
    made.cost_usd, made.retry_after = draw(_seconds), draw(_seconds)
    made.status = draw(st.none() | st.integers(100, 599))
    made.detail, made.replayed, made.wait_ns = draw(_texts), draw(st.booleans()), draw(_gap)
    made.sent = draw(st.sampled_from([None, {}, {"temperature": 0.5}]))
    made.dropped = draw(st.sampled_from([(), ("seed",), ("logit_bias", "n")]))
    made.request_bytes, made.answer_bytes = draw(_bytes), draw(_bytes)
    return made


@st.composite
def any_exchange(draw: st.DrawFn) -> Exchange:
    attempts = [draw(any_attempt(no)) for no in range(1, 1 + draw(st.integers(0, 4)))]
    made = exchange(*attempts, route=draw(st.sampled_from([*ROUTES, None, "unknown"])), stream=draw(st.booleans()))
    made.id = draw(st.uuids()).hex
    made.at = draw(st.floats(0, 4e9))
    made.origin = draw(st.sampled_from(Origin))
    made.parent_id, made.key = draw(_maybe_texts), draw(_maybe_texts)
    made.model = draw(_texts)
    made.winner = draw(st.none() | st.sampled_from(attempts)) if attempts else None
    made.outcome, made.kind = draw(st.sampled_from(Outcome)), draw(st.sampled_from(Kind))
    made.status = draw(st.sampled_from([0, 200, 429, 500]))
    made.marks = draw(any_marks(T0))
    made.request_bytes, made.answer_bytes = draw(_bytes), draw(_bytes)
    reasons = st.lists(st.tuples(_texts, _texts), max_size=2).map(tuple)
    candidates = st.lists(_texts, max_size=3).map(tuple)
    scores = st.lists(st.none() | st.floats(0, 1e9), max_size=3).map(tuple)
    shares = st.lists(st.floats(0, 1), max_size=3).map(tuple)
    made.relays, made.relay_ns = draw(st.tuples(st.integers(0, 50), _gap))
    made.tags = draw(st.sampled_from([(), ("a",), ("a", "b")]))
    made.trace = draw(st.sampled_from([None, TRACE]))
    made.decision = draw(
        st.none() | st.builds(Decision, _texts, st.floats(0, 1), candidates, reasons, scores, shares, _texts, _texts)
    )
    return made
