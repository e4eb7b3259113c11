"""What `GET /api/exchanges` can be asked, checked: a filter that is misread would show the wrong requests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from policies.verdict import Outcome
from proxy.errors import Refusal
from proxy.measure.store.reads import FILTERS
from proxy.record import Origin

MOST = 1000
"""Records of one answer."""

_CLOSED: Mapping[str, tuple[str, ...]] = {"outcome": tuple(Outcome), "origin": tuple(Origin), "failed": ("0", "1")}
_LISTS = ("limit", "before")


def limit(query: Mapping[str, str]) -> int:
    """How many records are wanted. Raises `Refusal` (400)."""
    return _whole(query, "limit", "50", MOST)


def filters(query: Mapping[str, str]) -> dict[str, str]:
    """Those of `FILTERS` that the query names, as the store compares them. Raises `Refusal` (400)."""
    unknown = next((name for name in query if name not in FILTERS and name not in _LISTS), None)
    if unknown is not None:
        known = ", ".join((*_LISTS, *FILTERS))
        raise Refusal(400, f"There is no filter `{unknown[:40]}`. There are: {known}.", param=unknown[:40])
    given = {name: query[name] for name in FILTERS if name in query}
    for name, value in given.items():
        if name in _CLOSED and value not in _CLOSED[name]:
            raise Refusal(400, f"`{name}` must be one of {', '.join(_CLOSED[name])}.", param=name)
        if name == "min_attempts":
            _whole(query, name, "", MOST)
        elif name in ("since", "until"):
            given[name] = _moment(name, value)
    return given


def _whole(query: Mapping[str, str], name: str, default: str, most: int) -> int:
    text = query.get(name, default)
    if not text.isdecimal() or len(text) > len(str(most)) or not 1 <= int(text) <= most:
        raise Refusal(400, f"`{name}` must be a number from 1 to {most}.", param=name)
    return int(text)


def _moment(name: str, text: str) -> str:
    """As the column `at` has it: UTC, in milliseconds."""
    try:
        at = datetime.fromisoformat(text)
        utc = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise Refusal(
            400, f"`{name}` must be a time in ISO 8601, as 2026-11-26T08:15:00Z; a `+` is written %2B.", param=name
        ) from None
    return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
