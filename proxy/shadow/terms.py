"""What an experiment is about, as plain values: kept in the store with it, so that a report needs nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from proxy import config as settings
from proxy.config.shadow import FEEDBACK, Candidate, Metric, Shadow
from proxy.scoring.judge import RUBRIC, Judge


class Gauge(NamedTuple):
    """One metric of an experiment."""

    name: str
    """Unique in the experiment."""
    kind: str
    margin: float
    slo: float | None = None
    """Seconds (ttft, e2e) or USD (cost)."""
    expect: str | None = None
    expect_from: str | None = None
    judge: Judge | None = None
    feedback: str | None = None
    """The name of what people said, where that is the metric: it comes later than the answers, if at all."""

    @property
    def is_ratio(self) -> bool:
        return self.kind == "cost" and self.slo is None

    @property
    def rule(self) -> str:
        """What the candidate may do at worst, in words."""
        if self.is_ratio:
            return f"at most {self.margin:.0%} dearer"
        if self.kind in ("ttft", "e2e") and self.slo is None:
            slower = (1 + self.margin) / (1 - self.margin) - 1
            return f"typically at most {slower:.0%} slower"
        limit = "" if self.slo is None else f" within {self.slo:g}{' USD' if self.kind == 'cost' else ' s'}"
        return f"at most {self.margin * 100:g} points worse{limit}"


class Part(NamedTuple):
    """Of the experiment's budget, USD; None: as much as there is."""

    per_day: float | None = None
    total: float | None = None


class Terms(NamedTuple):
    name: str
    routes: tuple[str, ...]
    candidate: str
    """The name of its target in records."""
    vendor: str
    """The provider that will see the prompts."""
    primary: Gauge | None
    guardrails: tuple[Gauge, ...]
    rate: float
    alpha: float
    max_units: int
    per_day: float
    """USD."""
    total: float
    """USD."""
    noise: float
    salt: str
    version: str
    """Changes with everything that changes the meaning of a score; pairs of another version do not count."""
    judging: Part = Part()
    similarity: str | None = None
    """The target whose embeddings tell how near the answers are in meaning."""
    comparing: Part = Part()
    """For those embeddings."""

    @property
    def gauges(self) -> tuple[Gauge, ...]:
        return self.guardrails if self.primary is None else (self.primary, *self.guardrails)

    def dumped(self) -> str:
        return orjson.dumps(_plain(self)).decode()

    @classmethod
    def loaded(cls, text: str) -> Terms:
        told = orjson.loads(text)
        told["routes"] = tuple(told["routes"])
        told["primary"] = _gauge(told["primary"]) if told["primary"] else None
        told["guardrails"] = tuple(_gauge(one) for one in told["guardrails"])
        for part in ("judging", "comparing"):
            told[part] = Part(**told.get(part, {}))
        return cls(**told)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: _plain(part) for name, part in value._asdict().items()}
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def _gauge(told: Mapping[str, Any]) -> Gauge:
    judge = told["judge"]
    return Gauge(**{**told, "judge": Judge(**judge) if judge else None})


def terms_of(name: str, experiment: Shadow) -> Iterator[tuple[Terms, Candidate]]:
    """One for each candidate; several share alpha and budget, and each is named `experiment:candidate`."""
    count = len(experiment.arms)
    judging = experiment.primary.budget if experiment.primary is not None else None
    similarity = experiment.similarity
    primary = _named(experiment.primary, experiment.margin) if experiment.primary is not None else None
    guardrails = _distinct([_named(metric, experiment.margin) for metric in experiment.guardrails], primary)
    for arm, candidate in experiment.arms.items():
        meaning = (
            candidate.model_dump_json(),
            repr(primary and (primary.kind, primary.slo, primary.expect, primary.judge and primary.judge.hash)),
            repr([(gauge.name, gauge.slo, gauge.expect) for gauge in guardrails]),
            *[f"feedback {one.feedback}" for one in (primary, *guardrails) if one is not None and one.feedback],
            experiment.only.model_dump_json(),
            repr(experiment.mirrored),
        )
        yield (
            Terms(
                name=f"{name}:{arm}" if arm else name,
                routes=experiment.mirrored,
                candidate=candidate.label,
                vendor=candidate.provider,
                primary=primary,
                guardrails=guardrails,
                rate=experiment.rate,
                alpha=experiment.alpha / count,
                max_units=experiment.max_units,
                per_day=experiment.budget.per_day / count,
                total=experiment.budget.total / count,
                noise=experiment.noise,
                salt=experiment.salt or name,
                version=hashlib.sha256("\x1f".join(meaning).encode()).hexdigest()[:12],
                judging=_part(judging, count),
                similarity=similarity.model if similarity is not None else None,
                comparing=_part(similarity.budget if similarity is not None else None, count),
            ),
            candidate,
        )


def _part(told: settings.shadow.Part | None, count: int) -> Part:
    """`count`: of candidates, which share."""
    if told is None:
        return Part()
    return Part(*(None if limit is None else limit / count for limit in (told.per_day, told.total)))


def _named(metric: Metric, margin: float) -> Gauge:
    judge = Judge(metric.model, metric.rubric or RUBRIC) if metric.model is not None else None
    slo = metric.slo if metric.slo is not None else metric.slo_usd
    feedback = (metric.name or FEEDBACK) if metric.kind == FEEDBACK else None
    return Gauge(
        metric.kind, metric.kind, metric.margin_or(margin), slo, metric.expect, metric.expect_from, judge, feedback
    )


def _distinct(gauges: list[Gauge], primary: Gauge | None) -> tuple[Gauge, ...]:
    """The primary is no guardrail beside itself; two of a kind are numbered."""
    seen: dict[str, int] = {}
    kept = []
    for gauge in gauges:
        if primary is not None and gauge._replace(margin=primary.margin) == primary:
            continue
        seen[gauge.kind] = number = seen.get(gauge.kind, int(primary is not None and gauge.kind == primary.kind)) + 1
        kept.append(gauge if number == 1 else gauge._replace(name=f"{gauge.kind} {number}"))
    return tuple(kept)


def experiments(config: settings.Config) -> Iterator[tuple[Terms, Candidate, Shadow]]:
    for name, experiment in config.shadow.items():
        for terms, candidate in terms_of(name, experiment):
            yield terms, candidate, experiment
