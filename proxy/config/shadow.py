"""The section `shadow`: experiments that mirror a share of a route's requests to a candidate and compare."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from proxy.config.fields import (
    EmptyIsDefault,
    EmptyIsNone,
    Flag,
    Limit,
    Money,
    Name,
    Number,
    Params,
    Share,
    TargetText,
    Text,
    Whole,
)
from proxy.config.problems import Wrong, did_you_mean
from proxy.config.section import Section, Shorthand

REFERENCES = ("exact", "exact_normalised", "contains", "regex", "numeric", "multiple_choice", "reference_f1")
GATES = ("errors", "validity", "refusal", "truncation", "ttft", "e2e", "cost", "feedback", *REFERENCES)
PRIMARIES = ("judge", *GATES)
SAMENESS = ("same_text", "same_words", "same_order", "same_length", "same_calls", "same_meaning")
MARGINS = {"errors": 0.02, "validity": 0.02, "ttft": 0.2, "e2e": 0.2, "cost": 0.1}
"""How much worse a candidate may be where nobody says; all others: the experiment's own margin."""
MARGIN_WITH_SLO = 0.05


class Part(Section):
    """A part of the experiment's budget that something may have; None: as much as there is."""

    per_day: Money | None = Field(default=None, gt=0, description="Most of it in a day (UTC).")
    total: Money | None = Field(default=None, gt=0, description="Most of it at all.")


FEEDBACK = "feedback"
"""The name of what users say where they give it no other."""


class Metric(Shorthand):
    """Written as a name, or as a mapping with more to say."""

    kind: Text = Field(description="What is measured.")
    margin: Number | None = Field(default=None, gt=0, le=10, description="How much worse the candidate may be.")
    slo: Limit | None = Field(default=None, description="Limit of a time (ttft, e2e); none compares the times.")
    slo_usd: Money | None = Field(default=None, description="Limit of an answer's price (cost); none: their ratio.")
    model: TargetText | None = Field(default=None, description="The judge, provider/model.")
    rubric: Text | None = Field(default=None, description="What the judge goes by.")
    name: Text | None = Field(default=None, description="Which feedback counts, by the name that it was given.")
    budget: Part | None = Field(default=None, description="The judge's part of the experiment's budget.")
    expect: Text | None = Field(default=None, description="The right answer, or a pattern (regex).")
    expect_from: Text | None = Field(default=None, description="The request's metadata that holds the right answer.")

    @model_validator(mode="after")
    def _whole(self) -> Metric:
        kind = self.kind
        if kind in SAMENESS:
            raise Wrong(f"{kind!r} measures sameness: being different is not being worse, so it cannot gate")
        if kind not in PRIMARIES and ":" not in kind:
            near = did_you_mean(kind, PRIMARIES) or f"available: {', '.join(PRIMARIES)}, module:function"
            raise Wrong(f"unknown metric {kind!r}", near)
        if (kind == "judge") != (self.model is not None):
            raise Wrong("a judge needs a model" if kind == "judge" else f"{kind!r} takes no model")
        if self.name is not None and kind != "feedback":
            raise Wrong(f"{kind!r} takes no name", "only feedback has a name")
        if self.budget is not None and kind != "judge":
            raise Wrong(f"{kind!r} takes no budget", "only a judge costs anything")
        if (kind in REFERENCES) != (self.expect is not None or self.expect_from is not None):
            raise Wrong(f"{kind!r} {'needs' if kind in REFERENCES else 'takes no'} expect or expect_from")
        if self.slo is not None and kind not in ("ttft", "e2e"):
            raise Wrong(f"{kind!r} takes no slo", "an slo is the limit of ttft or e2e")
        return self

    def margin_or(self, default: float) -> float:
        """The margin that holds; `default` is the experiment's."""
        if self.margin is not None:
            return self.margin
        if self.slo is not None or self.slo_usd is not None:
            return MARGIN_WITH_SLO
        return MARGINS.get(self.kind, default)


class Similarity(Shorthand):
    """Written as `provider/model`, or as a mapping with more to say."""

    model: TargetText = Field(description="A target that makes embeddings.")
    budget: Annotated[Part, EmptyIsDefault] = Part()

    @property
    def provider(self) -> str:
        return self.model.partition("/")[0]


class Candidate(Shorthand):
    """Written as `provider/model`, or as a mapping with more to say."""

    target: TargetText = Field(description="provider/model")
    name: Name | None = Field(default=None, description="A name for it in records.")
    params: Params = Field(default_factory=dict, description="Request parameters used where the request has none.")
    force: Params = Field(default_factory=dict, description="Request parameters that override the request's.")
    system: Text | None = Field(default=None, description="Instructions in place of the request's.")
    prefix: Text | None = Field(default=None, description="Text put before the last user message.")
    suffix: Text | None = Field(default=None, description="Text put after the last user message.")
    cache_bust: Flag = Field(default=False, description="Make each prompt's beginning new, so that no cache helps.")

    @property
    def provider(self) -> str:
        return self.target.partition("/")[0]

    @property
    def label(self) -> str:
        return self.name or self.target


class Budget(Section):
    per_day: Money = Field(default=5.0, gt=0, description="Most that may be spent in a day (UTC).")
    total: Money = Field(default=50.0, gt=0, description="Most that may be spent at all; then it ends.")


class Only(Section):
    """Which requests are eligible; what is not said does not matter."""

    tags: Annotated[tuple[Text, ...], EmptyIsNone] = Field(default=(), description="Requests with any of these tags.")
    keys: Annotated[tuple[Text, ...], EmptyIsNone] = Field(default=(), description="Requests of these keys.")
    tools: Flag | None = Field(default=None, description="With tools (true) or without (false).")
    stream: Flag | None = Field(default=None, description="Streamed (true) or not (false).")
    min_bytes: Whole | None = Field(default=None, ge=0, description="Smallest request body.")
    max_bytes: Whole | None = Field(default=None, ge=1, description="Largest request body.")
    min_tokens: Whole | None = Field(default=None, ge=0, description="Shortest prompt, in tokens as estimated.")
    max_tokens: Whole | None = Field(default=None, ge=1, description="Longest prompt, in tokens as estimated.")
    since: Text | None = Field(default=None, description="Not before this moment (ISO 8601, UTC).")
    until: Text | None = Field(default=None, description="Not from this moment on; then it ends.")


class Shadow(Section):
    """One experiment."""

    route: Text | None = Field(default=None, description="The route whose requests are mirrored.")
    routes: Annotated[tuple[Text, ...], EmptyIsNone] = Field(default=(), description="The same for several routes.")
    candidate: Candidate | None = Field(default=None, description="Who is asked as well.")
    candidates: Annotated[dict[Name, Candidate], EmptyIsDefault] = Field(
        default_factory=dict, description="Several candidates, which share alpha and budget."
    )
    rate: Share = Field(default=0.05, ge=0, le=1, description="Share of the units (conversations) that is mirrored.")
    budget: Annotated[Budget, EmptyIsDefault] = Budget()
    primary: Metric | None = Field(default=None, description="What decides; none: a report without a verdict.")
    guardrails: Annotated[tuple[Metric, ...], EmptyIsNone] = Field(
        default=(Metric(kind="errors"), Metric(kind="ttft"), Metric(kind="cost"), Metric(kind="validity")),
        description="What must not become worse either.",
    )
    similarity: Similarity | None = Field(
        default=None, description="Compare what the two answers mean; decides nothing."
    )
    margin: Number = Field(default=0.05, gt=0, lt=1, description="How much worse the candidate may be on the primary.")
    alpha: Number = Field(default=0.05, gt=0, lt=0.5, description="Chance of a wrong verdict that is accepted.")
    max_units: Whole = Field(default=10_000, ge=100, description="Scored units after which it is inconclusive.")
    noise: Share = Field(
        default=0.0, ge=0, le=1, description="Share of the units for which the primary is asked again."
    )
    busy_above: Whole = Field(default=400, ge=1, description="Live requests under way above which nothing is mirrored.")
    late_above: Limit = Field(default=0.05, description="Lateness of the event loop above which nothing is mirrored.")
    cpu_above: Number = Field(
        default=0.8, gt=0, description="Share of a core used by the proxy above which nothing is mirrored."
    )
    leave: Share = Field(
        default=0.25, ge=0, le=1, description="Share of a rate limit that is left to live requests on the same key."
    )
    timeout: Limit = Field(default=120.0, description="Longest that the candidate may take.")
    only: Annotated[Only, EmptyIsDefault] = Only()
    salt: Text = Field(default="", description="Another salt draws other units.")

    @model_validator(mode="after")
    def _whole(self) -> Shadow:
        if (self.candidate is None) == (not self.candidates):
            raise Wrong("name a candidate, or several under candidates", "candidate: provider/model")
        if (self.route is None) == (not self.routes):
            raise Wrong("name a route, or several under routes", "route: chat")
        for guardrail in self.guardrails:
            if guardrail.kind == "judge":
                raise Wrong("a judge can be the primary, not a guardrail")
        return self

    @property
    def mirrored(self) -> tuple[str, ...]:
        return (self.route,) if self.route is not None else self.routes

    @property
    def arms(self) -> dict[str, Candidate]:
        """By name; the only candidate's name is empty."""
        return {"": self.candidate} if self.candidate is not None else self.candidates
