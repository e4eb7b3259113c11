"""What one client may use: requests and tokens a minute, and money by the day, by the month and in all.

Requests and tokens are two buckets. Each holds a minute's worth, is full at the start and is filled up steadily, so
that a client may send a minute's worth at once and then has to keep to the rate. A request takes its tokens out by
estimate and settles when they are known; the bucket of tokens may run into debt by that. Money is charged when a
request is over: what is under way when the last of it goes is still answered.

Moments `now` are seconds of any steady clock; `today` is a day as text, `2026-11-26`, as in the records.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

MINUTE = 60.0
_PER_BYTE = 0.25
_ANSWER = 512.0
"""Tokens of an answer while none has been seen."""
_LEARNED = 0.1
"""Weight of the newest request in what is learned of a client's requests."""


class Limit(StrEnum):
    """The closed set of what a request can be refused for."""

    RPM = "rpm"
    TPM = "tpm"
    BUDGET = "budget"


class Allowed(NamedTuple):
    """None: no limit. Money in USD."""

    rpm: float | None = None
    tpm: float | None = None
    per_day: float | None = None
    per_month: float | None = None
    total: float | None = None

    @property
    def budgeted(self) -> bool:
        return (self.per_day, self.per_month, self.total) != (None, None, None)


UNLIMITED = Allowed()


class Refused(NamedTuple):
    limit: Limit
    seconds: float | None
    """Until there is room again; None for a budget, whose time is the calendar's."""
    most: float
    """The limit itself."""
    span: str = "minute"
    """What it is the limit of: `minute`, `day`, `month` or `total`."""


class Claim(NamedTuple):
    """What a request took, to be settled."""

    tokens: float
    size: int
    """Bytes of the request."""


class _Bucket:
    __slots__ = ("_at", "_level", "most")

    def __init__(self, most: float, now: float) -> None:
        self.most = most
        self._level = most
        self._at = now

    def level(self, now: float) -> float:
        if now > self._at:
            self._level = min(self.most, self._level + self.most / MINUTE * (now - self._at))
            self._at = now
        return self._level

    def wait(self, amount: float, now: float) -> float:
        """Seconds until it holds that much; more than it can hold is there when it is full."""
        missing = min(amount, self.most) - self.level(now)
        return missing * MINUTE / self.most if missing > 1e-9 else 0.0

    def take(self, amount: float, now: float) -> None:
        self._level = self.level(now) - amount

    def resize(self, most: float) -> None:
        """Another limit: what was taken stays taken."""
        self._level += most - self.most
        self.most = most


class Allowance:
    """Of one client. `admit` before a request, `settle` after it, `charge` for whatever of it was billed."""

    __slots__ = ("_answer", "_day", "_month", "_per_byte", "_requests", "_tokens", "refused", "spent", "terms")

    def __init__(self, terms: Allowed, now: float) -> None:
        self.terms = UNLIMITED
        self._requests: _Bucket | None = None
        self._tokens: _Bucket | None = None
        self._per_byte = _PER_BYTE
        self._answer = _ANSWER
        self._day = self._month = ""
        self.spent = {"day": 0.0, "month": 0.0, "total": 0.0}
        """USD."""
        self.refused = dict.fromkeys(Limit, 0)
        """How many requests were refused, by what for."""
        self.limit(terms, now)

    def limit(self, terms: Allowed, now: float) -> None:
        """Other terms from now on; what is used stays used."""
        self.terms = terms
        self._requests = _bounded(self._requests, terms.rpm, now)
        self._tokens = _bounded(self._tokens, terms.tpm, now)

    def restore(self, spent: Iterable[tuple[str, float]], today: str) -> None:
        """What was spent before, by day."""
        self._turn(today)
        for day, usd in spent:
            self.spent["total"] += usd
            if day[:7] == self._month:
                self.spent["month"] += usd
            if day == self._day:
                self.spent["day"] += usd

    def admit(self, size: int, most: int | None, now: float, today: str) -> Claim | Refused:
        """A request of `size` bytes whose answer may have `most` tokens, if it may be sent."""
        refused = self.spent_up(today)
        requests, tokens = self._requests, self._tokens
        if refused is None and requests is not None and (wait := requests.wait(1.0, now)):
            refused = Refused(Limit.RPM, wait, requests.most)
        need = 0.0
        if tokens is not None:
            need = size * self._per_byte + (self._answer if most is None else min(most, self._answer))
            if refused is None and (wait := tokens.wait(need, now)):
                refused = Refused(Limit.TPM, wait, tokens.most)
        if refused is not None:
            self.refused[refused.limit] += 1
            return refused
        if requests is not None:
            requests.take(1.0, now)
        if tokens is not None:
            tokens.take(need, now)
        return Claim(need, size)

    def settle(self, claim: Claim, used: tuple[int, int] | None, now: float) -> None:
        """`used`: tokens in and out; None where nobody counted them, so that the estimate stands."""
        tokens = self._tokens
        if tokens is None or used is None:
            return
        came, went = used
        tokens.take(came + went - claim.tokens, now)
        if came and claim.size:
            self._per_byte += (min(1.0, came / claim.size) - self._per_byte) * _LEARNED
            self._answer += (went - self._answer) * _LEARNED

    def charge(self, usd: float, today: str) -> None:
        self._turn(today)
        for span in self.spent:
            self.spent[span] += usd

    def left(self, now: float) -> dict[Limit, float]:
        """Requests and tokens that might be sent at this moment; below 0: in debt."""
        buckets = ((Limit.RPM, self._requests), (Limit.TPM, self._tokens))
        return {limit: bucket.level(now) for limit, bucket in buckets if bucket is not None}

    def budgets(self, today: str) -> list[tuple[str, float, float]]:
        """For each that is set: span, limit, spent; the one that begins anew first comes first."""
        self._turn(today)
        terms = self.terms
        limits = (("day", terms.per_day), ("month", terms.per_month), ("total", terms.total))
        return [(span, most, self.spent[span]) for span, most in limits if most is not None]

    def spent_up(self, today: str) -> Refused | None:
        """The budget that is spent, of several the one that begins anew last; None: there is money left."""
        if not self.terms.budgeted:
            return None
        gone = [one for one in self.budgets(today) if one[2] >= one[1]]
        if not gone:
            return None
        span, most, _ = gone[-1]
        return Refused(Limit.BUDGET, None, most, span)

    def _turn(self, today: str) -> None:
        if today > self._day:  # a clock that was set back gives nobody his money a second time
            if today[:7] != self._month:
                self._month, self.spent["month"] = today[:7], 0.0
            self._day, self.spent["day"] = today, 0.0


def _bounded(bucket: _Bucket | None, most: float | None, now: float) -> _Bucket | None:
    if most is None:
        return None
    if bucket is None:
        return _Bucket(most, now)
    bucket.resize(most)
    return bucket
