"""What a policy sees and what it answers. Views only: a policy keeps nothing, asks nobody and changes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import NamedTuple, Protocol


class Passed(StrEnum):
    """Why a target was passed over. A closed set: recorded, shown, and counted."""

    BREAKER = "breaker_open"
    COOLING = "cooling_down"
    """It said when it may be asked again, and that time has not come."""
    PARKED = "credential_parked"
    """Its credential is out of money or refused."""
    MISSING = "model_missing"
    """It said that it does not have the model, or that our key may not use it."""
    LIMIT = "rate_limit"
    """What is known of its rate limits leaves no room for this request."""
    BUSY = "busy"
    """As many requests are under way as it may have."""
    OPERATION = "operation"
    """It cannot be asked for this at all (embeddings of a chat model, say)."""
    LACKS = "lacks_capability"
    WINDOW = "context_window"
    """The prompt is longer than it takes."""
    ONLY = "not_in_only"
    """The request's `provider.only`, or its `order` without fallbacks, does not name it."""
    IGNORED = "ignored"
    """The request's `provider.ignore` names it."""
    PRICE = "over_max_price"
    PRICE_UNKNOWN = "price_unknown"
    """The request has a `max_price`, and what this target costs is not known."""
    NO_FALLBACK = "no_fallbacks"
    """The request wants its first choice or nothing."""
    POLICY = "policy"
    """The route's policy left it out: a rule, a service level that it misses."""


@dataclass(slots=True)
class Ask:
    """A request as a policy sees it. The proxy's own (`proxy.asked`) fills each field when it is first read."""

    model: str
    """The name that the client asked for."""
    stream: bool = False
    size: int = 0
    """Bytes of the request."""
    tokens: int = 0
    """Tokens of the prompt, estimated."""
    output: int = 512
    """Tokens of the answer: the request's own limit, or a guess."""
    tools: bool = False
    """It offers tools."""
    vision: bool = False
    """It holds images."""
    json: str = ""
    """The form that it demands: `object`, `schema`, or nothing."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case; without those that hold secrets."""
    metadata: Mapping[str, object] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    key: str = ""
    """Name of the client's key."""
    unit: str = ""
    """What an experiment counts: the conversation."""
    affinity: str = ""
    """The same for requests whose prompts begin alike, so that prompt caches hit."""
    at: float = 0.0
    """Wall time, seconds since the epoch."""
    turn: int = 0
    """How many requests the route has had before this one, as far as they counted."""

    @property
    def needs(self) -> frozenset[str]:
        """Capabilities without which a target cannot answer: `tools`, `vision`, `json`, `json_schema`."""
        names = [name for name, given in (("tools", self.tools), ("vision", self.vision)) if given]
        if self.json:
            names.append("json_schema" if self.json == "schema" else "json")
        return frozenset(names)


class Candidate(NamedTuple):
    """A target as it is now. What is not known has a value that favours and harms nobody."""

    name: str
    weight: float = 1.0
    in_flight: int = 0
    """Attempts under way at this target, from this process."""
    context_window: int | None = None
    """Tokens, where the config says."""
    barred: str = ""
    """Why it should not be asked now (a `Passed`); empty: it may be."""
    outstanding: int = 0
    """Tokens of the attempts under way, estimated."""
    ttft: float | None = None
    """Seconds to first content, exponentially weighted, failures counted as slow; None before the first."""
    success: float = 1.0
    """Share of attempts that succeeded lately, 0 to 1."""
    level: float = 1.0
    """Share of its tightest rate limit that is left, 0 to 1."""
    ramp: float = 1.0
    """Share of its traffic that it should have while it comes back (slow start), 0 to 1."""
    priority: int = 1
    """Targets of a lower number come first; the others are their fallbacks."""
    lacks: frozenset[str] = frozenset()
    """Capabilities that it does not have (see `Ask.needs`)."""
    input_price: float | None = None
    """USD per million tokens of prompt, what its cache saves already taken off; None where it is not known."""
    output_price: float | None = None
    tpot: float | None = None
    """Seconds per token of output after the first, exponentially weighted."""
    latency: Latency | None = None
    """How long first content took lately, failures as the deadline they cost."""
    posterior: tuple[float, float] = (1.0, 1.0)
    """Successes and failures, discounted, one of each to begin with: a Beta distribution's parameters."""
    share: float | None = None
    """Share of the units that a canary has at its present step; None for a target that is no canary."""


class Latency(Protocol):
    """A view of recent times to first content, in seconds; old ones fade."""

    def beyond(self, seconds: float) -> tuple[float, float]:
        """(how many took longer, how many there were), both weighted by age."""
        ...

    def quantile(self, q: float) -> float | None:
        """None where there are too few."""
        ...


class Choice(NamedTuple):
    """One place in the preference order."""

    candidate: int
    """Its place among the candidates given."""
    propensity: float
    """Probability, in [0, 1], that this policy puts this candidate first for this request."""
    score: float | None = None
    """What the policy compared, in the policy's own unit (`scored_in`); for the record."""
    why: str = ""
    """What decided, where the policy's name does not tell: a rule's number, `explored`."""


class Policy(Protocol):
    """Orders candidates by preference. The result holds each candidate at most once; failover follows its order.

    A candidate that is left out is not asked. Propensities are for the first place and sum to 1 over the result.
    Chance comes from `rng`, or, where one unit should stay where it is, from the hash of `ask.unit`.
    """

    def plan(self, ask: Ask, candidates: Sequence[Candidate], rng: Random) -> Sequence[Choice]: ...


class Setting(NamedTuple):
    """How the config writes a policy's field: `Annotated[float, Setting("share", "…")]`."""

    form: str
    """`share` (5%), `duration` (2s), `number`, `whole`, `text`, `flag`, `texts` (a mapping of texts), `one` (of
    `among`), `policy` (another policy) or `part` (a frozen dataclass of settings)."""
    meaning: str
    least: float | None = None
    most: float | None = None
    among: tuple[str, ...] = ()


def drawn(*parts: object) -> float:
    """A number in (0, 1) that is always the same for the same parts, and otherwise as good as chance."""
    digest = hashlib.blake2b("\x1f".join([str(part) for part in parts]).encode("utf-8", "replace"), digest_size=8)
    return (int.from_bytes(digest.digest()) + 1) / (2**64 + 2)


def called(target: str, name: str) -> bool:
    """Whether a config means this target by that name: all credentials of a target (`#2`, …) share it."""
    return target == name or target.rpartition("#")[0] == name


def first(order: Sequence[int], scores: Sequence[float] | None = None, why: str = "") -> list[Choice]:
    """Choices of a policy that leaves nothing to chance: the first place is certain."""
    return [
        Choice(place, 1.0 if at == 0 else 0.0, None if scores is None else scores[place], why if at == 0 else "")
        for at, place in enumerate(order)
    ]
