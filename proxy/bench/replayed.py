"""A replay as a shadow experiment would have it: the same pairs, scores, verdict and report, in a store of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from policies.trial import State
from policies.verdict import VERDICTS, Kind
from proxy import scoring
from proxy.asked import Asked as Ask
from proxy.bench.replay import Slice
from proxy.call import Called
from proxy.config import Config
from proxy.config.shadow import Candidate, Metric, Shadow
from proxy.measure.store.ledger import Batch, Ledger, Pair
from proxy.measure.store.schema import migrate
from proxy.measure.store.writer import connect
from proxy.record import Attempt
from proxy.scoring import FAILED
from proxy.shadow.pair import arm_columns
from proxy.shadow.report import report
from proxy.shadow.scores import Asked, Side, scores
from proxy.shadow.standing import Tally, judged
from proxy.shadow.terms import Terms, terms_of
from proxy.wire.answer import answer_of
from proxy.wire.chat import ChatRequest

_ASKS_OTHERS = ("judge", "feedback")
"""Metrics that need somebody beside the two arms; in a replay nobody else is asked."""
_FOREVER = "9999"


def terms_for(config: Config, like: str | None, route: str, candidate: str) -> Terms:
    """The metrics of the experiment `like`, or the usual guardrails and no verdict. Raises ValueError."""
    section = Shadow(route=route, candidate=Candidate(target="a/b"))
    if like is not None:
        if like not in config.shadow:
            raise ValueError(
                f"the config has no shadow experiment {like!r}; known: {', '.join(config.shadow) or 'none'}"
            )
        other = config.shadow[like]
        section = section.model_copy(
            update={"primary": _asking_nobody(other.primary), "margin": other.margin, "alpha": other.alpha}
            | {"guardrails": tuple(one for one in other.guardrails if _asking_nobody(one) is not None)}
        )
    ((terms, _),) = terms_of(f"replay of {route}", section)
    return terms._replace(candidate=candidate, vendor=candidate.partition("/")[0], rate=1.0)


def _asking_nobody(metric: Metric | None) -> Metric | None:
    return None if metric is None or metric.kind in _ASKS_OTHERS else metric


class Replayed:
    """Takes the pairs as they come; `report` is called at the end."""

    def __init__(self, folder: Path, terms: Terms) -> None:
        self.terms = terms
        self._ledger = Ledger(folder / "replay.db")
        self._own = {gauge.kind: scoring.named(gauge.kind) for gauge in terms.gauges if ":" in gauge.kind}
        self._tally = Tally()
        self._seen: set[str] = set()
        self._batch = Batch()
        self._texts: list[tuple[str, str, str, str, str]] = []
        connection = connect(self._ledger.path)
        try:
            migrate(connection)
        finally:
            connection.close()

    def pair(self, part: Slice, called: Called) -> None:
        exchange, terms = called.exchange, self.terms
        attempt = exchange.attempts[0] if exchange.attempts else None  # a single try on either side
        ok = attempt is not None and attempt.kind is Kind.OK
        said = answer_of(called.data, stream=part.stream) if ok else FAILED
        primary, candidate = _served(part), Side(attempt, said, part.stream)
        request = orjson.dumps({"model": part.target or "m", **part.body})
        unit = Ask(ChatRequest.parse(request), key=part.key).unit
        scored = unit not in self._seen
        found = scores(terms, exchange.id, part.body, primary, candidate, Asked(), self._own) if scored else []
        if scored:
            self._seen.add(unit)
            self._tally.add(found)
        row = Pair(
            experiment=terms.name,
            version=terms.version,
            at=part.when,
            unit=unit,
            scored=scored,
            live_id=part.id,
            shadow_id=exchange.id,
            noise_id=None,
            route=terms.routes[0],
            key=part.key or None,
            operation="chat",
            stream=part.stream,
            **arm_columns("primary", primary),
            **(arm_columns("candidate", candidate) | {"candidate_target": terms.candidate}),
            primary_outcome="ok" if primary.attempt is None or primary.attempt.kind is Kind.OK else "upstream_error",
            candidate_outcome=(attempt.outcome if attempt is not None else exchange.outcome).value,
            served_outcome="ok" if part.ok else "upstream_error",
            served_target=part.target,
            served_e2e_ms=part.e2e_ms,
            differences="[]",
            spent_usd=sum(one.cost_usd or 0.0 for one in exchange.attempts),
            judge_usd=0.0,
            similarity_usd=0.0,
            usd_source=None,
        )
        self._batch.pairs.append((row, found))
        for what in ("eligible", "sampled", "failed" if candidate.failed else "completed"):
            self._batch.count(terms.name, terms.version, part.when[:10], what)
        for id, answer in ((part.id, part.said), (exchange.id, called.data.decode("utf-8", "replace"))):
            self._texts.append((id, part.when, _FOREVER, request.decode(), answer))

    def report(self, at: str) -> Mapping[str, Any]:
        """As `weighbridge shadow report` has it. `at`: now, as in records."""
        terms, batch = self.terms, self._batch
        batch.events.append((at, terms.name, terms.version, "started", terms.dumped()))
        if terms.primary is not None:
            found = judged(terms, self._tally, ended="the slice is over")
            told = {"state": found.state, "label": found.label, "why": found.why, "units": self._tally.units}
            batch.events.append((at, terms.name, terms.version, "verdict", orjson.dumps(told).decode()))
        self._ledger.commit(batch)
        self._ledger.keep(self._texts)
        made = report(self._ledger, terms.name, at[:10])
        assert made is not None  # noqa: S101  (it was begun above)
        if made["state"] == State.PROMOTE:
            made["next"] = f"Try {terms.candidate} on live requests: a shadow experiment, or a canary (docs/shadow.md)."
        return made


def _served(part: Slice) -> Side:
    """The first try that was made for it, as far as the records tell."""
    first = part.first
    if first is None:
        return Side(None, FAILED, part.stream)
    kind = Kind.OK if first.error_kind is None else Kind(first.error_kind)
    attempt = Attempt(1, first.target, first.target.partition("/")[0], "", 0)
    attempt.kind, attempt.outcome, attempt.cost_usd = kind, VERDICTS[kind].outcome, first.cost_usd
    attempt.finish_reason = part.answer.finish_reason
    marks = attempt.marks
    if first.e2e_ms is not None:
        marks.sent = 1
        marks.last_content = marks.end = 1 + round(first.e2e_ms * 1e6)
        marks.first_content = 1 + round(first.ttft_ms * 1e6) if first.ttft_ms is not None else 0
    return Side(attempt, part.answer if first.served else FAILED, part.stream)
