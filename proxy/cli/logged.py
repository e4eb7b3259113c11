"""Recorded requests as another policy would have seen them, and what it would have done with each.

The records hold the request's model, key, tags, size, tokens, form of answer, conversation and time, and the targets
that could have been asked; the config has their weights and prices. They do not hold how each target was at that
moment (its load, latency, limits), nor headers, tools or metadata: a policy that looks at those gets `Unsupported`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from policies.base import Ask, Candidate, Passed, Policy, called
from policies.compose import arrange
from policies.counterfactual import Unsupported

if TYPE_CHECKING:
    from proxy.config import Config

Row = Mapping[str, Any]
Chances = Mapping[str, float]
"""Of targets, to come first."""
Wanted = Callable[[Row], Chances]
"""What the other policy would have done with a recorded request."""

COLUMNS = "e.at, e.model, e.key, e.tags, e.stream, e.request_bytes, e.input_tokens, e.output_tokens, e.decision"
"""Of `v_exchanges e`: what a row must have; `read` makes one of it."""
_USUAL_ANSWER = 512
_BYTES_PER_TOKEN = 4.0


class Known(NamedTuple):
    """A target as the config has it, and what its answers cost."""

    label: str
    weight: float
    priority: int
    input_price: float | None
    """USD per million tokens."""
    output_price: float | None


def targets_of(config: Config, route: str) -> list[Known]:
    from proxy.assemble import list_price, prices

    book = prices(config)
    return [
        Known(target.label, target.weight, target.priority, *list_price(book, config, target))
        for target in config.routes[route].targets
    ]


def read(row: dict[str, Any]) -> Row:
    """With the decision parsed."""
    return {**row, "decision": orjson.loads(row["decision"])}


def chances_of(row: Row) -> Chances:
    """With which each target would have come first, as recorded."""
    told = row["decision"]
    names, chances = told["candidates"], told.get("propensities")
    return dict(zip(names, chances, strict=True)) if chances else {names[0]: 1.0}


def unit_of(row: Row) -> str:
    """Its conversation, where the policy looked at it."""
    unit: str = row["decision"].get("unit", "")
    return unit


def by_shares(shares: Chances, rows: Sequence[Row]) -> Wanted:
    """Shares of those that could be asked; where none of them could, what was done is what would be done."""
    seen = {name for row in rows for name in _fit(row)}
    unseen = {label for label in shares if not any(called(name, label) for name in seen)}

    def wanted(row: Row) -> Chances:
        fit = _fit(row)
        found: dict[str, float] = {label: shares[label] for label in unseen}
        for label, share in shares.items():
            names = [name for name in fit if called(name, label)]
            found |= {name: share / len(names) for name in names}
        total = sum(found.values())
        return {name: share / total for name, share in found.items()} if total else chances_of(row)

    return wanted


def by_policy(policy: Policy, kind: str, targets: Sequence[Known]) -> Wanted:
    """Asks the policy itself, as the proxy would."""

    def wanted(row: Row) -> Chances:
        fit = _fit(row)
        listed = {*row["decision"]["candidates"], *[one["target"] for one in row["decision"]["passed_over"]]}
        candidates = []
        for target in targets:
            names = [name for name in fit if called(name, target.label)]
            if not names and not any(called(name, target.label) for name in listed):
                names = [target.label]  # one that the route did not have then
            candidates += [_Target(name, target, kind) for name in names]
        return _asked(policy, kind, row, candidates) if candidates else chances_of(row)

    return wanted


def _fit(row: Row) -> list[str]:
    """The targets that could have been asked: those in the plan, and those that only the policy left out."""
    told = row["decision"]
    left_out = [one["target"] for one in told["passed_over"] if one["reason"] == Passed.POLICY]
    return [*told["candidates"], *left_out]


def _asked(policy: Policy, kind: str, row: Row, candidates: Sequence[Any]) -> Chances:
    """The mean over turns, where the policy takes turns."""
    chances: dict[str, float] = {}
    turns = 1
    turn = 0
    while turn < turns:
        ask = _Ask(row, kind, turn)
        order = arrange(policy, ask, candidates, Random(0)).order  # noqa: S311  (its propensities do not depend on it)
        if not order:
            raise Unsupported(f"{kind} would have asked no target at all for some requests")
        for choice in order:
            name = candidates[choice.candidate].name
            chances[name] = chances.get(name, 0.0) + choice.propensity
        turns = len(candidates) if ask.took_turns else 1
        turn += 1
    return {name: chance / turns for name, chance in chances.items() if chance > 0}


class _Ask(Ask):
    """A request as far as it was recorded."""

    __slots__ = ("_kind", "_turn", "took_turns")

    def __init__(self, row: Row, kind: str, turn: int) -> None:
        # The slots of `Ask` that are not set here stay empty, and asking for them ends in `__getattr__`.
        self.model = row["model"]
        self.stream = bool(row["stream"])
        self.size = row["request_bytes"]
        # The proxy estimates from the text, which is not kept; the provider's own count is nearer than the bytes.
        tokens, output = row["input_tokens"], row["output_tokens"]
        self.tokens = tokens if tokens is not None else round(self.size / _BYTES_PER_TOKEN)
        self.output = output if output is not None else _USUAL_ANSWER
        self.tags = frozenset((row["tags"] or "").split())
        self.key = row["key"] or ""
        self.unit = unit_of(row)
        self.at = datetime.fromisoformat(row["at"]).timestamp()
        self._kind = kind
        self._turn = turn
        self.took_turns = False

    def __getattr__(self, name: str) -> Any:
        if name == "turn":
            self.took_turns = True
            return self._turn
        raise _not_recorded(self._kind, f"a request's `{name}`")


class _Target:
    """A target of which its state at the moment of choice is not known."""

    barred = ""
    lacks: frozenset[str] = frozenset()
    context_window = None
    ramp = 1.0

    def __init__(self, name: str, known: Known, kind: str) -> None:
        self.name = name
        self.weight = known.weight
        self.priority = known.priority
        self.input_price = known.input_price
        self.output_price = known.output_price
        self._kind = kind

    def __getattr__(self, name: str) -> Any:
        if name in Candidate._fields:
            raise _not_recorded(self._kind, f"each target's `{name}` at the moment of choice")
        raise AttributeError(name)


def _not_recorded(kind: str, what: str) -> Unsupported:
    return Unsupported(
        f"{kind} looks at {what}, which the records do not hold: give the --shares that it would deal, or try it on"
        " live traffic"
    )
