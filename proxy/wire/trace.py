"""W3C Trace Context: the `traceparent` that comes with a request and the one that goes on with each attempt.

https://www.w3.org/TR/trace-context/ . What is not valid is treated as absent, as the standard asks.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_FORM = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE_LIMIT = 512
"""Bytes of `tracestate` that are passed on; the standard asks for at least as many."""


class Trace(NamedTuple):
    trace_id: str
    """32 hexadecimal digits."""
    parent_id: str
    """The caller's span: 16 hexadecimal digits."""
    flags: str
    state: bytes = b""
    """`tracestate`, passed on as it came."""

    def headers(self, span: int) -> tuple[tuple[bytes, bytes], ...]:
        """What says that we are `span` (64 bits, not 0) in this trace."""
        parent = b"00-%b-%016x-%b" % (self.trace_id.encode(), span, self.flags.encode())
        told = (b"traceparent", parent)
        return ((told), (b"tracestate", self.state)) if self.state else (told,)


def trace_of(traceparent: bytes, tracestate: bytes = b"") -> Trace | None:
    """None where the header is not one that may be continued."""
    match = _FORM.fullmatch(traceparent)
    if match is None:
        return None
    version, trace_id, parent_id, flags, more = match.groups()
    if version == b"ff" or (version == b"00" and more) or not trace_id.strip(b"0") or not parent_id.strip(b"0"):
        return None
    state = tracestate if len(tracestate) <= _STATE_LIMIT else b""
    return Trace(trace_id.decode(), parent_id.decode(), flags.decode(), state)
