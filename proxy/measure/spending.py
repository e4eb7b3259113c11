"""What budgets are charged: costs that are known, and an assumed one for what nobody could price.

One rule, twice: over a record, and in SQL over its row, so that what was spent can be read from the store again.
"""

from __future__ import annotations

from policies.verdict import Outcome
from proxy.prices.assumed import ASSUMED_INPUT, ASSUMED_OUTPUT, BYTES_PER_TOKEN
from proxy.record import Attempt, Exchange

_BILLED = (Outcome.CLIENT_CLOSED, Outcome.TRUNCATED)
"""Outcomes of attempts that were sent and that a provider probably bills, though it told no usage."""

UNBILLED = ("count_tokens", "moderations")
"""Operations that providers do not charge for."""

ASSUMED_SQL = f"""CASE
  WHEN a.cost_usd IS NOT NULL THEN 0.0
  WHEN e.operation IN {UNBILLED} THEN 0.0
  WHEN a.uncached_input_tokens IS NOT NULL THEN
    (a.uncached_input_tokens + a.cache_read_tokens + a.cache_write_tokens) * {ASSUMED_INPUT}
    + (a.output_text_tokens + a.reasoning_tokens) * {ASSUMED_OUTPUT}
  WHEN a.outcome = 'ok' OR a.first_content_ns > 0 OR a.sent_ns > 0 AND a.outcome IN ('client_closed', 'truncated') THEN
    a.request_bytes / {BYTES_PER_TOKEN} * {ASSUMED_INPUT}
    + coalesce(a.chunks, a.answer_bytes / {BYTES_PER_TOKEN}) * {ASSUMED_OUTPUT}
  ELSE 0.0 END"""
"""`assumed_usd` of a row `a` of the table of attempts, that belongs to the row `e` of exchanges."""


def assumed_usd(attempt: Attempt) -> float:
    """Taken for its cost where that is not known; 0 where it is, and where nobody would be billed.

    Where no usage was told either, a token is four bytes of the request, and a chunk of the answer (without a stream,
    four bytes of it).
    """
    usage, marks = attempt.usage, attempt.marks
    if attempt.cost_usd is not None:
        return 0.0
    if usage is not None:
        return usage.input * ASSUMED_INPUT + usage.output * ASSUMED_OUTPUT
    if attempt.outcome is Outcome.OK or marks.first_content or (marks.sent and attempt.outcome in _BILLED):
        answer = attempt.gaps.chunks if attempt.gaps is not None else attempt.answer_bytes / BYTES_PER_TOKEN
        return attempt.request_bytes / BYTES_PER_TOKEN * ASSUMED_INPUT + answer * ASSUMED_OUTPUT
    return 0.0


def charged_usd(exchange: Exchange) -> float:
    """Of all attempts together."""
    if exchange.operation in UNBILLED:
        return sum([one.cost_usd or 0.0 for one in exchange.attempts])
    return sum([one.cost_usd if one.cost_usd is not None else assumed_usd(one) for one in exchange.attempts])
