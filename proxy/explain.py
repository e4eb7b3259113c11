"""A decision in words: what was tried in which order, with which scores, and why everything else was passed over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from policies.base import Passed
from proxy.record import Decision

Json = dict[str, Any]

_WORDS: Mapping[str, str] = {
    Passed.BREAKER: "its circuit breaker is open after failures",
    Passed.COOLING: "it asked to be left alone for a while",
    Passed.PARKED: "its credential was refused or is out of money",
    Passed.MISSING: "it said that it does not have the model, or not for this key",
    Passed.LIMIT: "its rate limit leaves no room for this request",
    Passed.BUSY: "it has as much under way as it may have",
    Passed.OPERATION: "it cannot be asked for this operation",
    Passed.LACKS: "it cannot do what the request needs",
    Passed.WINDOW: "the prompt is longer than it takes",
    Passed.ONLY: "the request's `provider` object does not name it",
    Passed.IGNORED: "the request's `provider.ignore` names it",
    Passed.PRICE: "it costs more than the request's `max_price`",
    Passed.PRICE_UNKNOWN: "its price is not known, and the request has a `max_price`",
    Passed.NO_FALLBACK: "the request wants no fallbacks",
    Passed.POLICY: "the route's policy leaves it out",
}


def explained(decision: Decision, attempts: Sequence[Mapping[str, Any]] = ()) -> Json:
    """`attempts` as the API shows them. Each target stands once: in the order of the plan, then those passed over."""
    targets = []
    for place, name in enumerate(decision.candidates):
        tried = [one for one in attempts if one["target"] == name]
        targets.append(
            {
                "target": name,
                "place": place + 1,
                "propensity": _at(decision.propensities, place, 1.0 if place == 0 else 0.0),
                "score": _at(decision.scores, place, None),
                "attempts": [one["attempt_no"] for one in tried],
                "said": _tried(tried) if tried else _standing_by(place, bool(attempts)),
            }
        )
    for name, reason in decision.passed_over:
        targets.append(
            {
                "target": name,
                "place": None,
                "propensity": 0.0,
                "score": None,
                "attempts": [],
                "reason": reason,
                "said": f"passed over: {_WORDS.get(reason, reason)}",
            }
        )
    return {
        "policy": decision.policy,
        "why": decision.why or None,
        "propensity": decision.propensity,
        "unit": decision.unit or None,
        "targets": targets,
    }


def _at(values: Sequence[Any], place: int, otherwise: Any) -> Any:
    return values[place] if place < len(values) else otherwise


def _standing_by(place: int, over: bool) -> str:
    if over:
        return "stood by: it was not needed"
    return "would be asked first" if place == 0 else f"would be asked if those before it fail (place {place + 1})"


def _tried(attempts: Sequence[Mapping[str, Any]]) -> str:
    told = []
    for one in attempts:
        took = f" after {one['e2e_ms']:.0f} ms" if one.get("e2e_ms") is not None else ""
        if one["outcome"] == "ok":
            told.append(f"attempt {one['attempt_no']} answered{took}")
        else:
            status = f", status {one['status']}" if one.get("status") else ""
            told.append(f"attempt {one['attempt_no']} failed{took}: {one['error_kind']}{status}")
    return "; ".join(told)


def of_stored(policy: str, propensity: float, stored: Mapping[str, Any]) -> Decision:
    """The decision that the store keeps as `policy`, `propensity` and JSON."""
    passed = stored.get("passed_over", ())
    return Decision(
        policy,
        propensity,
        tuple(stored.get("candidates", ())),
        tuple([(one["target"], one["reason"]) for one in passed]),
        tuple(stored.get("scores", ())),
        tuple(stored.get("propensities", ())),
        stored.get("why", ""),
        stored.get("unit", ""),
    )
