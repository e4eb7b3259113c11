"""The pairs in which the candidate did worst: why, and what both said, where texts are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from proxy.measure.store.ledger import Ledger
from proxy.shadow.terms import Gauge, Terms
from proxy.wire.answer import Answer, answer_of
from proxy.wire.answer_forms import answer_in

Json = dict[str, Any]

SHOWN = 10
"""Pairs."""
LONGEST = 2_000
"""Characters of a text."""
NO_TEXT = "no text: `capture` keeps none for this route or key, or it has expired"

_PAIRS = (
    "SELECT p.*, s.difference FROM v_shadow_scores s JOIN v_shadow_pairs p USING (pair_no)"
    " WHERE s.experiment = ? AND s.version = ? AND s.metric = ? AND s.bin < 100 ORDER BY s.bin, s.pair_no DESC LIMIT ?"
)
_SCORES = "SELECT metric, primary_score, candidate_score FROM v_shadow_scores WHERE pair_no = ?"
_TEXTS = (
    "SELECT request, answer FROM bodies WHERE id = ? AND expires > strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
    " ORDER BY n DESC LIMIT 1"
)


def worst(ledger: Ledger, terms: Terms, lead: Gauge) -> list[Json]:
    """By the leading metric, the worst first."""
    found = []
    for row in ledger.rows(_PAIRS, (terms.name, terms.version, lead.name, SHOWN)):
        scores = {one["metric"]: one for one in ledger.rows(_SCORES, (row["pair_no"],))}
        live, shadow = (ledger.rows(_TEXTS, (row[f"{side}_id"],)) for side in ("live", "shadow"))
        made = {
            "difference": row["difference"],
            "at": row["at"],
            "live_id": row["live_id"],
            "shadow_id": row["shadow_id"],
            "reasons": [*_reasons(row, scores, lead)],
            "asked": _asked(live[0]["request"]) if live else None,
            "primary": _said(row, live[0]["answer"]) if live else None,
            "candidate": _said(row, shadow[0]["answer"]) if shadow else None,
        }
        found.append(made | {"no_text": None if live and shadow else NO_TEXT})
    return found


def _reasons(row: Mapping[str, Any], scores: Mapping[str, Mapping[str, Any]], lead: Gauge) -> Iterator[str]:
    """In what the candidate's answer was worse or other than the primary's, the weightiest first."""
    if row["candidate_outcome"] != "ok":
        yield f"the candidate failed: {row['candidate_error_kind'] or row['candidate_outcome']}"
        return
    worse = {name for name, one in scores.items() if _below(one["candidate_score"], one["primary_score"])}
    if "errors" in worse:
        yield "the candidate's answer was empty or not whole"
    if row["candidate_finish_reason"] == "length" != row["primary_finish_reason"]:
        yield "the candidate's answer was cut at its limit of tokens"
    for metric, words in _WORSE.items():
        if metric in worse:
            yield words
    if lead.kind in ("ttft", "e2e"):
        times = [row[f"{arm}_{lead.kind}_ms"] for arm in ("primary", "candidate")]
        if None not in times:
            yield f"the candidate took {times[1]:,.0f} ms, the primary {times[0]:,.0f} ms"
    calls = scores.get("same_calls")
    if calls is not None and calls["candidate_score"] < 1:
        yield "other tools were called, or with other arguments"
    if lead.name in worse and lead.kind not in _TOLD:
        yield f"{lead.name}: {scores[lead.name]['candidate_score']:g} against {scores[lead.name]['primary_score']:g}"


_WORSE = {
    "validity": "the form that was demanded (JSON, schema or tool arguments) was kept to by the primary alone",
    "refusal": "the candidate refused",
    "judge": "the judge preferred the primary's answer in both orders",
    "feedback": "people liked the primary's answer better",
}
_TOLD = (*_WORSE, "errors", "truncation", "ttft", "e2e")


def _below(candidate: float | None, primary: float | None) -> bool:
    return candidate is not None and primary is not None and candidate < primary


def _asked(request: str) -> str:
    """The last that a person or a tool said."""
    try:
        body = orjson.loads(request)
        told = body.get("messages") or body.get("input") or body.get("prompt")
        last = told[-1] if isinstance(told, list) else told
        content = last.get("content", last.get("text")) if isinstance(last, dict) else last
        if isinstance(content, list):
            content = "\n".join([str(part.get("text") or f"[{part.get('type')}]") for part in content])
    except (orjson.JSONDecodeError, AttributeError, IndexError):
        content = request
    return str(content or "")[:LONGEST]


def _said(row: Mapping[str, Any], answer: str | None) -> str:
    """What an answer says, in whichever form it was asked for."""
    if answer is None:
        return "(too long to be kept)"
    data, stream = answer.encode(), bool(row["stream"])
    said = answer_in(row["operation"], data, stream=stream)
    if said == Answer() or not (said.text or said.refusal or said.tool_calls):
        said = answer_of(data, stream=stream)  # a changed prompt is asked as a chat, whatever the form of the live one
    calls = [f"[calls {call.name} with {call.arguments}]" for call in said.tool_calls]
    return "\n".join([part for part in (said.text or said.refusal, *calls) if part])[:LONGEST]
