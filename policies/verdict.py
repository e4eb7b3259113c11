"""What an outcome means: one table that retry, breaker, metrics and the client's status all read.

Each kind of outcome has one row; nothing else in the project decides what a failure is worth. Providers map their
own errors to a `Kind`; everything after that is a look-up here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """The closed set of things that can end an attempt. Stored as `error_kind` (NULL for OK)."""

    OK = "ok"
    CONNECT = "connect"
    """DNS, TCP or TLS failed, or the connection was lost before the first byte of an answer."""
    SERVER_ERROR = "server_error"
    """The upstream answered 5xx (500, 502, 503, 504, 529) or said that it is overloaded."""
    TIMEOUT = "timeout"
    """No answer, or no content, before a deadline of ours; or the upstream's own 408."""
    RATE_LIMIT = "rate_limit"
    QUOTA = "quota"
    """Out of credit: 402, or 429 with a code such as `insufficient_quota`. Waiting does not help."""
    AUTH = "auth"
    """The upstream refused *our* credential (401, 403)."""
    UNKNOWN_MODEL = "unknown_model"
    BAD_REQUEST = "bad_request"
    UNSUPPORTED = "unsupported"
    """The request cannot be put into the target's dialect; it was not asked."""
    CONTEXT_LENGTH = "context_length"
    CONTENT_FILTER = "content_filter"
    MALFORMED = "malformed"
    """A success status with something that is no answer: bad JSON, an empty stream, an error inside a 200."""
    TRUNCATED = "truncated"
    """The answer was cut, or broke, after content had been sent on."""
    STALL = "stall"
    """Content stopped coming for longer than the stall deadline, after content had been sent on."""
    DOWNSTREAM_CLOSED = "downstream_closed"
    """The client went away; never held against the upstream."""
    SUPERSEDED = "superseded"
    """A hedge: the other attempt had content first, and this one was closed."""
    BUSY = "busy"
    """The proxy's own bounds left no room for the request; nobody was asked."""
    OVER_LIMIT = "over_limit"
    """The client's own key has used up what it may use (`policies.allowance`); nobody was asked."""
    INTERNAL = "internal"
    """A fault of the proxy itself."""


class Outcome(StrEnum):
    """The closed enumeration shared by metrics, store and views."""

    OK = "ok"
    CLIENT_ERROR = "client_error"
    RATE_LIMITED = "rate_limited"
    CLIENT_CLOSED = "client_closed"
    UPSTREAM_ERROR = "upstream_error"
    TIMEOUT = "timeout"
    TRUNCATED = "truncated"
    NO_TARGET = "no_target"
    INTERNAL_ERROR = "internal_error"


class Failover(StrEnum):
    """Whether another target may be asked instead."""

    YES = "yes"
    NO = "no"
    LARGER = "larger"
    """Only a target whose context window is not known to be too small (`failover_on.context_length`)."""
    FILTER = "content_filter"
    """Only where the route opted in by `failover_on.content_filter`."""
    REQUEST = "bad_request"
    """Only where the route opted in by `failover_on.bad_request`."""


class Health(StrEnum):
    """What the outcome says of the target."""

    SUCCESS = "success"
    FAILURE = "failure"
    THROTTLE = "throttle"
    CREDENTIAL = "credential"
    """The credential is of no use for now; the target itself may be well."""
    MISSING = "missing"
    """This target does not have the model, or not for our key."""
    NEUTRAL = "neutral"
    """Says nothing of the target: the client's fault, or the client's leaving."""


class Verdict(NamedTuple):
    again: int
    """How many more tries the same target is worth, when no other target is left."""
    failover: Failover
    health: Health
    status: int
    """HTTP status for the client when every target failed; 0 keeps the upstream's."""
    outcome: Outcome
    weight: int = 1
    """Charge on a retry budget: a timeout counts twice, since the upstream has billed it already."""


_F, _H, _O = Failover, Health, Outcome

VERDICTS: dict[Kind, Verdict] = {
    Kind.OK: Verdict(0, _F.NO, _H.SUCCESS, 200, _O.OK),
    Kind.CONNECT: Verdict(1, _F.YES, _H.FAILURE, 502, _O.UPSTREAM_ERROR),
    Kind.SERVER_ERROR: Verdict(1, _F.YES, _H.FAILURE, 0, _O.UPSTREAM_ERROR),
    Kind.TIMEOUT: Verdict(0, _F.YES, _H.FAILURE, 504, _O.TIMEOUT, weight=2),
    Kind.RATE_LIMIT: Verdict(1, _F.YES, _H.THROTTLE, 429, _O.RATE_LIMITED),
    Kind.QUOTA: Verdict(0, _F.YES, _H.CREDENTIAL, 429, _O.RATE_LIMITED),
    Kind.AUTH: Verdict(0, _F.YES, _H.CREDENTIAL, 502, _O.UPSTREAM_ERROR),
    Kind.UNKNOWN_MODEL: Verdict(0, _F.YES, _H.MISSING, 404, _O.CLIENT_ERROR),
    Kind.BAD_REQUEST: Verdict(0, _F.REQUEST, _H.NEUTRAL, 0, _O.CLIENT_ERROR),
    Kind.UNSUPPORTED: Verdict(0, _F.YES, _H.NEUTRAL, 400, _O.CLIENT_ERROR),
    Kind.CONTEXT_LENGTH: Verdict(0, _F.LARGER, _H.NEUTRAL, 400, _O.CLIENT_ERROR),
    Kind.CONTENT_FILTER: Verdict(0, _F.FILTER, _H.NEUTRAL, 400, _O.CLIENT_ERROR),
    Kind.MALFORMED: Verdict(0, _F.YES, _H.FAILURE, 502, _O.UPSTREAM_ERROR),
    Kind.TRUNCATED: Verdict(0, _F.NO, _H.FAILURE, 502, _O.TRUNCATED),
    Kind.STALL: Verdict(0, _F.NO, _H.FAILURE, 504, _O.TRUNCATED),
    Kind.DOWNSTREAM_CLOSED: Verdict(0, _F.NO, _H.NEUTRAL, 499, _O.CLIENT_CLOSED),
    Kind.SUPERSEDED: Verdict(0, _F.NO, _H.NEUTRAL, 499, _O.CLIENT_CLOSED),
    Kind.BUSY: Verdict(0, _F.NO, _H.NEUTRAL, 503, _O.NO_TARGET),
    Kind.OVER_LIMIT: Verdict(0, _F.NO, _H.NEUTRAL, 429, _O.CLIENT_ERROR),
    Kind.INTERNAL: Verdict(0, _F.NO, _H.NEUTRAL, 500, _O.INTERNAL_ERROR),
}
