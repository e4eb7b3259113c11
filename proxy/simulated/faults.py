"""The faults a simulated upstream can show: their table, how they are written, and when they apply.

`FAULTS` is what the documentation, the command's help and the tests read. What a fault does to an answer is in
`spoil`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import NamedTuple

from proxy.simulated.latency import seconds

AFTER = 2
"""Content chunks before a fault in mid-stream, where `after` is not given."""


class Phase(StrEnum):
    """Where in the course of an answer the fault shows."""

    CONNECT = "connect"
    BEFORE_HEADERS = "before headers"
    STATUS = "status"
    BEFORE_CONTENT = "before content"
    CONTENT = "content"
    """After as many content chunks as `after` says; `after:0` is before content. Not streamed: amid the body."""
    END = "end"
    FORM = "form"
    """The content is all there, in an unusual form."""


class Takes(StrEnum):
    """What may stand behind the `=` of a fault."""

    NOTHING = ""
    AFTER = "after:N"
    DURATION = "5s"
    RETRY_AFTER = "retry_after:2"


class FaultKind(NamedTuple):
    meaning: str
    harmless: bool
    """The answer is whole all the same, and a client should get it."""
    phase: Phase
    takes: Takes = Takes.NOTHING


_P, _T = Phase, Takes


def _status(meaning: str) -> FaultKind:
    return FaultKind(meaning, False, _P.STATUS, _T.RETRY_AFTER)


FAULTS: dict[str, FaultKind] = {
    "refuse": FaultKind(
        "always: the port is closed (for `=5s`, then it opens again); at a rate: the connection is reset when it is "
        "accepted, a kept one when a request comes",
        False, _P.CONNECT, _T.DURATION,
    ),
    "reset_before_headers": FaultKind("RST once the request has been read", False, _P.BEFORE_HEADERS),
    "close_before_headers": FaultKind("FIN once the request has been read", False, _P.BEFORE_HEADERS),
    "hang_before_headers": FaultKind("silence once the request has been read", False, _P.BEFORE_HEADERS),
    "garbage": FaultKind("bytes that are no HTTP, then FIN", False, _P.BEFORE_HEADERS),
    "early_hints": FaultKind("a 103 answer ahead of the 200", True, _P.FORM),
    "http_400": _status("the request is called invalid"),
    "context_length": _status("400 with code context_length_exceeded"),
    "content_filter": _status("400 with code content_filter"),
    "http_401": _status("the key is called wrong"),
    "http_402": _status("out of credit"),
    "http_403": _status("not allowed from this region"),
    "http_404": _status("the model is called unknown"),
    "http_408": _status("the upstream's own time-out"),
    "http_413": _status("the request is called too large"),
    "http_422": _status("the request cannot be worked on"),
    "http_429": _status("rate limit; without Retry-After unless given"),
    "http_429_quota": _status("429 with code insufficient_quota"),
    "http_500": _status("internal error"),
    "http_502": _status("bad gateway"),
    "http_503": _status("overloaded"),
    "http_504": _status("gateway time-out"),
    "http_529": _status("overloaded, in a status outside the standard"),
    "html_502": FaultKind("502 with an HTML page", False, _P.STATUS),
    "redirect_302": FaultKind("302 to /redirected on the same host", False, _P.STATUS),
    "html_200": FaultKind("200 with an HTML page", False, _P.BEFORE_CONTENT),
    "empty_200": FaultKind("200 with an empty body", False, _P.BEFORE_CONTENT),
    "error_in_200": FaultKind("200 with a JSON error object in place of the answer", False, _P.BEFORE_CONTENT),
    "sse_for_json": FaultKind(
        "the other kind of answer: a stream where JSON was asked for, JSON where a stream was", False, _P.BEFORE_CONTENT
    ),
    "json_for_sse": FaultKind("the same as sse_for_json", False, _P.BEFORE_CONTENT),
    "empty_choices": FaultKind("an answer whose choices are []", False, _P.BEFORE_CONTENT),
    "done_only": FaultKind("a stream of nothing but the end marker; not streamed: {}", False, _P.BEFORE_CONTENT),
    "role_then_error": FaultKind(
        "the role chunk, then an error event; not streamed: as error_in_200", False, _P.BEFORE_CONTENT
    ),
    "slow_ttft": FaultKind(
        "headers and role chunk at once, then nothing for 5 s (or `=DURATION`), then the answer", True,
        _P.BEFORE_CONTENT, _T.DURATION,
    ),
    "cut_mid_stream": FaultKind("FIN without the last chunk of the body", False, _P.CONTENT, _T.AFTER),
    "cut_reset": FaultKind("RST", False, _P.CONTENT, _T.AFTER),
    "cut_clean": FaultKind(
        "the body ends as HTTP wants it, without finish_reason and [DONE]", False, _P.CONTENT, _T.AFTER
    ),
    "stall_mid_stream": FaultKind("silence on an open connection", False, _P.CONTENT, _T.AFTER),
    "slow_body": FaultKind("half of the body, in mid-event, then silence", False, _P.CONTENT),
    "truncated_json": FaultKind("a complete HTTP message that ends amid JSON", False, _P.CONTENT, _T.AFTER),
    "wrong_content_length": FaultKind("a Content-Length larger than the body, then FIN", False, _P.CONTENT, _T.AFTER),
    "wrong_content_length_short": FaultKind("a Content-Length of half the body, then FIN", False, _P.CONTENT),
    "bad_chunk": FaultKind("a chunk size that is no number", False, _P.CONTENT, _T.AFTER),
    "malformed_sse": FaultKind("a data line with broken JSON, then the rest", False, _P.CONTENT, _T.AFTER),
    "error_event": FaultKind(
        "an error event inside the 200, then the end; not streamed: as error_in_200", False, _P.CONTENT, _T.AFTER
    ),
    "big_line": FaultKind(
        "10 MB of content nobody asked for on one line; not streamed: 10 MB that are no JSON", False, _P.CONTENT,
        _T.AFTER,
    ),
    "missing_finish": FaultKind("all content and the end marker, but no finish_reason", False, _P.END),
    "missing_usage": FaultKind("no usage, though asked for", True, _P.END),
    "missing_done": FaultKind("no [DONE]; not streamed: no change", True, _P.END),
    "extra_after_done": FaultKind("one more content chunk after [DONE]; not streamed: blank lines", True, _P.END),
    "split_utf8": FaultKind("writes that cut characters of several bytes in two", True, _P.FORM),
    "crlf": FaultKind("lines end in CRLF", True, _P.FORM),
    "comments": FaultKind("SSE comments between events; not streamed: blank lines ahead of the JSON", True, _P.FORM),
    "byte_by_byte": FaultKind("every byte is a write of its own", True, _P.FORM),
    "gzip": FaultKind("gzip, though nobody asked for it", True, _P.FORM),
}  # fmt: skip

_SPEC = re.compile(
    r"(?P<kind>[a-z0-9_]+)(?:=(?P<value>(?:after|retry_after):[^:#]*|[^:#]*))?"
    r"(?::(?P<rate>[^#]*)|#(?P<first>\d+)(?P<range>-(?P<last>\d*))?)?"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault and when it applies: always, at a `rate`, or from the `first` to the `last` request."""

    kind: str
    after: int = AFTER
    """Content chunks before it shows."""
    seconds: float | None = None
    retry_after: float | None = None
    """Seconds; None leaves the header out."""
    rate: float = 1.0
    first: int | None = None
    """Requests count from 1, anew whenever the faults are set."""
    last: int | None = None
    """None: to the end, where `first` is given."""

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise _unknown(self.kind)
        if not 0 <= self.rate <= 1:
            raise ValueError(f"the rate of {self.kind} lies between 0 and 1, not {self.rate:g}")
        if self.kind == "refuse" and self.seconds is not None and not self.always:
            raise ValueError("refuse closes the port for a time only where it applies always, without rate or number")

    @classmethod
    def parse(cls, text: str) -> Fault:
        """`KIND[=VALUE][:RATE]`, `KIND[=VALUE]#N`, `#N-M` or `#N-`. Raises ValueError.

        VALUE is `after:N`, a duration or `retry_after:SECONDS`, as the kind takes it; RATE is `0.3` or `30%`.
        """
        match = _SPEC.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"not a fault: {text!r}; write it as http_503, http_503:0.3, http_503#3 or http_503#1-5")
        kind, value = match["kind"], match["value"]
        if kind not in FAULTS:
            raise _unknown(kind)
        rate = 1.0 if match["rate"] is None else _rate(match["rate"], text)
        first = int(match["first"]) if match["first"] else None
        last = first if match["range"] is None else int(match["last"]) if match["last"] else None
        if first is not None and (first < 1 or (last is not None and last < first)):
            raise ValueError(f"requests count from 1, the smaller number first: {text!r}")
        after, duration, retry_after = _value(kind, value)
        return cls(kind, after, duration, retry_after, rate, first, last)

    @property
    def always(self) -> bool:
        return self.rate == 1.0 and self.first is None

    @property
    def harmless(self) -> bool:
        return FAULTS[self.kind].harmless

    def __str__(self) -> str:
        takes = FAULTS[self.kind].takes
        value = ""
        if takes is Takes.AFTER:
            value = f"=after:{self.after}"
        elif self.seconds is not None:
            value = f"={self.seconds * 1000:g}ms"
        elif self.retry_after is not None:
            value = f"=retry_after:{self.retry_after:g}"
        if self.first is not None:
            last = "" if self.last == self.first else f"-{self.last or ''}"
            return f"{self.kind}{value}#{self.first}{last}"
        return f"{self.kind}{value}" if self.always else f"{self.kind}{value}:{self.rate:g}"


def _unknown(kind: str) -> ValueError:
    near = difflib.get_close_matches(kind, FAULTS, n=1)
    return ValueError(f"unknown fault {kind!r}" + (f", did you mean {near[0]}?" if near else ""))


def _rate(text: str, whole: str) -> float:
    try:
        rate = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise ValueError(f"the rate in {whole!r} lies between 0 and 1 (0% and 100%)")
    return rate


def _value(kind: str, value: str | None) -> tuple[int, float | None, float | None]:
    """`after`, `seconds` and `retry_after` as given behind the `=`."""
    takes = FAULTS[kind].takes
    if value is None:
        return AFTER, None, None
    name, _, number = value.partition(":")
    if takes is Takes.DURATION:
        return AFTER, seconds(value), None
    if takes is Takes.AFTER and name == "after" and number.isdecimal():
        return int(number), None, None
    if takes is Takes.AFTER and value in ("before", "after"):
        return 0 if value == "before" else AFTER, None, None
    if takes is Takes.RETRY_AFTER and name == "retry_after" and re.fullmatch(r"\d+(\.\d+)?", number):
        return AFTER, None, float(number)
    what = f"takes ={takes}" if takes else "takes no value"
    raise ValueError(f"{kind} {what}, not ={value}")


def faults_of(given: Iterable[Fault | str]) -> tuple[Fault, ...]:
    """Faults as objects or as text. Raises ValueError."""
    if isinstance(given, str):
        raise ValueError("faults are a list, such as ['http_503:0.3']")
    found = []
    for one in given:
        if not isinstance(one, Fault | str):
            raise ValueError(f"a fault is text such as http_503:0.3, not {one!r}")
        found.append(one if isinstance(one, Fault) else Fault.parse(one))
    return tuple(found)


def pick(faults: Sequence[Fault], seed: int, turn: int) -> Fault | None:
    """The first fault that applies to the `turn`-th request; the same for the same seed, every time."""
    for place, fault in enumerate(faults):
        if fault.first is not None:
            applies = fault.first <= turn and (fault.last is None or turn <= fault.last)
        else:
            applies = fault.rate == 1.0 or Random(f"{seed}/{place}/{fault.kind}/{turn}").random() < fault.rate
        if applies:
            return fault
    return None
