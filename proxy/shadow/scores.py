"""Both arms of a pair, scored by every metric of an experiment. Pure; what asks a model comes in as a number.

The arms are treated alike: an arm that failed scores 0 (its time counts as endless), whichever it is, because leaving
out the failures of one arm alone would make equal arms look different.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import NamedTuple

from policies import evidence
from policies.verdict import Kind
from proxy import scoring
from proxy.measure import timing
from proxy.record import Attempt
from proxy.scoring import Arm
from proxy.shadow.standing import Score
from proxy.shadow.terms import Gauge, Terms
from proxy.wire.answer import Answer
from proxy.wire.chunk import Json

CENTRE = "judge_again"
"""The judge before two answers of the primary: the candidate's score here is the second answer's."""


class Side(NamedTuple):
    """One arm's part of a pair: a single try."""

    attempt: Attempt | None
    """None if there was none at all."""
    answer: Answer
    stream: bool

    @property
    def failed(self) -> bool:
        attempt = self.attempt
        return attempt is None or attempt.kind is not Kind.OK or scoring.empty(self.answer)

    @property
    def said(self) -> Answer:
        """The answer as scorers see it: nothing at all where the arm failed."""
        return scoring.FAILED if self.failed else self.answer

    @property
    def ttft(self) -> float | None:
        """Seconds from the request to the first content; of an answer that is not streamed, to all of it."""
        marks = self.attempt.marks if self.attempt is not None else None
        return None if marks is None else _seconds(marks.sent, marks.first_content if self.stream else self._last)

    @property
    def e2e(self) -> float | None:
        """Seconds from the request to the last content. Reading on for a slow client is not the upstream's time."""
        return None if self.attempt is None else _seconds(self.attempt.marks.sent, self._last)

    @property
    def _last(self) -> int:
        assert self.attempt is not None  # noqa: S101  (asked for by the two above)
        marks = self.attempt.marks
        return marks.last_content or marks.end

    @property
    def usd(self) -> float | None:
        return self.attempt.cost_usd if self.attempt is not None else None


def _seconds(start: int, end: int) -> float | None:
    span = timing.span(start, end)
    return None if span is None else span / 1e9


class Asked(NamedTuple):
    """What had to be asked of models, or of users."""

    judged: float | None = None
    """How the candidate fared before the judge: 0 to 1, 1/2 a tie."""
    rejudged: float | None = None
    """How the primary's second answer fared before the judge against its first: 1/2 on average, or the judge errs."""
    noise: Answer | None = None
    """The primary's second answer to the same request."""
    meaning: float | None = None
    """How near the two answers are in meaning, 0 to 1."""
    meaning_again: float | None = None
    """The primary's first and second one."""


def scores(
    terms: Terms, id: str, request: Json, primary: Side, candidate: Side, asked: Asked, own: dict[str, Arm]
) -> list[Score]:
    """Of one pair with the id `id`. `own`: users' scorers by kind."""
    found = []
    for gauge in terms.gauges:
        score = _gauged(gauge, id, request, primary, candidate, asked, own)
        if score is not None:
            found.append(score)
    if asked.rejudged is not None:
        found.append(_score(CENTRE, id, 1.0 - asked.rejudged, asked.rejudged, asked.rejudged - 0.5))
    found += _sameness(terms, id, primary.said, candidate.said, asked)
    return found


def rated(gauge: Gauge, id: str, primary: float, candidate: float) -> Score:
    """What people said of both answers of the pair with the id `id`, 0 to 1 each."""
    return _score(gauge.name, id, primary, candidate, candidate - primary)


def _gauged(
    gauge: Gauge, id: str, request: Json, primary: Side, candidate: Side, asked: Asked, own: dict[str, Arm]
) -> Score | None:
    if gauge.kind == "judge":
        won = asked.judged
        return None if won is None else _score(gauge.name, id, 1.0 - won, won, won - 0.5)
    if gauge.feedback is not None:
        return None  # `rated`, when both answers were
    if gauge.kind in ("ttft", "e2e"):
        return _timed(gauge, id, primary, candidate)
    if gauge.kind == "cost":
        if primary.usd is None or candidate.usd is None or primary.failed or candidate.failed:
            return None
        if gauge.slo is None:
            return Score(gauge.name, primary.usd, candidate.usd, None)
        return _indicated(gauge, id, primary.usd, candidate.usd, gauge.slo)
    arm = _arm(gauge, request, own)
    if arm is None:
        return None
    p, c = arm(request, primary.said), arm(request, candidate.said)
    return None if p is None or c is None else _score(gauge.name, id, p, c, c - p)


def _timed(gauge: Gauge, id: str, primary: Side, candidate: Side) -> Score | None:
    """Within the limit or not; without a limit, by how much the candidate is quicker, relative to both together."""
    p, c = (inf if side.failed else getattr(side, gauge.kind) for side in (primary, candidate))
    if p is None or c is None:
        return None
    if gauge.slo is not None:
        return _indicated(gauge, id, p, c, gauge.slo)
    difference = 0.0 if p == c else 1.0 if p == inf else -1.0 if c == inf else (p - c) / (p + c)
    return Score(gauge.name, _finite(p), _finite(c), evidence.bin_of(difference, f"{id}/{gauge.name}"))


def _indicated(gauge: Gauge, id: str, primary: float, candidate: float, limit: float) -> Score:
    p, c = float(primary <= limit), float(candidate <= limit)
    return _score(gauge.name, id, p, c, c - p)


def _finite(seconds: float) -> float | None:
    return None if seconds == inf else seconds


def _arm(gauge: Gauge, request: Json, own: dict[str, Arm]) -> Arm | None:
    """The scorer of one answer; None where it has nothing to go by."""
    if gauge.kind in scoring.REFERENCES:
        compare = scoring.REFERENCES[gauge.kind]
        metadata = request.get("metadata")
        named = metadata.get(gauge.expect_from) if isinstance(metadata, dict) and gauge.expect_from else None
        expected = gauge.expect if gauge.expect_from is None else named
        if not isinstance(expected, str):
            return None
        return lambda body, answer: 0.0 if scoring.failed(answer) else compare(answer.text, expected)
    if gauge.kind in own:
        scorer = own[gauge.kind]
        return lambda body, answer: 0.0 if scoring.failed(answer) else scorer(body, answer)
    return scoring.ARMS.get(gauge.kind)


def _score(metric: str, id: str, primary: float, candidate: float, difference: float) -> Score:
    return Score(metric, primary, candidate, evidence.bin_of(difference, f"{id}/{metric}"))


def _sameness(terms: Terms, id: str, primary: Answer, candidate: Answer, asked: Asked) -> Iterator[Score]:
    """How like the primary's answer the candidate's is, and, where it was asked again, the primary's own second one."""
    again: dict[str, float | None] = {}
    if asked.noise is not None:
        again = {name: same(primary, asked.noise) for name, same in scoring.SAMENESS.items()}
    found = {name: same(primary, candidate) for name, same in scoring.SAMENESS.items()}
    # Models differ in what they call near: what another one said is another metric.
    meaning = f"same_meaning ({terms.similarity})"
    found[meaning], again[meaning] = asked.meaning, asked.meaning_again
    for name, score in found.items():
        noise = again.get(name)
        if score is not None and noise is not None:
            yield _score(name, id, noise, score, score - noise)
        elif score is not None:
            yield Score(name, None, score, None)
