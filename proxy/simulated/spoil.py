"""What each fault does: to the plan of an answer, before a dialect renders it, or to the rendered reply.

Each function edits one `Reply`. Faults that only make sense in a stream do to a whole body what comes nearest.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

from proxy.simulated.answer import Answer, Complaint, Wanted
from proxy.simulated.dialect import Dialect, Framed, error_headers
from proxy.simulated.faults import Fault
from proxy.simulated.reply import End, Framing, Part, Reply, Tag

SLOW_S = 5.0
BIG_LINE = 10_000_000
"""Bytes."""
_HTML = b"<!DOCTYPE html>\n<html><head><title>Bad gateway</title></head><body><h1>502 Bad gateway</h1></body></html>\n"
_PAUSE_S = 0.02
"""Before a reset, so that what was written has left: a reset throws away what still waits to be sent."""

_TEXT = "The simulated upstream was told to answer so."

STATUSES: dict[str, Complaint] = {
    "http_400": Complaint(400, _TEXT, code="invalid_value"),
    "context_length": Complaint(
        400,
        "This model's maximum context length is 128 tokens. However, your messages resulted in more.",
        param="messages",
        code="context_length_exceeded",
    ),
    "content_filter": Complaint(400, f"Filtered. {_TEXT}", param="prompt", code="content_filter"),
    "http_401": Complaint(401, f"Incorrect API key provided. {_TEXT}", code="invalid_api_key"),
    "http_402": Complaint(402, _TEXT, type="insufficient_quota", code="credit_balance_exhausted"),
    "http_403": Complaint(403, _TEXT, type="request_forbidden", code="unsupported_country_region_territory"),
    "http_404": Complaint(404, f"The model does not exist. {_TEXT}", code="model_not_found"),
    "http_408": Complaint(408, f"Request timeout. {_TEXT}", type="timeout", code="request_timeout"),
    "http_413": Complaint(413, f"Request too large. {_TEXT}", code="request_too_large"),
    "http_422": Complaint(422, _TEXT, code="unprocessable_entity"),
    "http_429": Complaint(429, f"Rate limit reached. {_TEXT}", type="requests", code="rate_limit_exceeded"),
    "http_429_quota": Complaint(
        429, f"You exceeded your current quota. {_TEXT}", type="insufficient_quota", code="insufficient_quota"
    ),
    "http_500": Complaint(500, _TEXT, type="server_error"),
    "http_502": Complaint(502, f"Bad gateway. {_TEXT}", type="server_error"),
    "http_503": Complaint(503, f"Overloaded. {_TEXT}", type="server_error", code="server_is_overloaded"),
    "http_504": Complaint(504, f"Gateway timeout. {_TEXT}", type="server_error"),
    "http_529": Complaint(529, f"Overloaded. {_TEXT}", type="overloaded_error", code="overloaded"),
}

_MID_STREAM = Complaint(500, f"The server had an error. {_TEXT}", type="server_error")


def spoil_plan(fault: Fault, answer: Answer) -> Answer:
    """Faults of content rather than of wire; others leave the answer alone."""
    if fault.kind == "empty_choices":
        return answer._replace(choices=())
    if fault.kind in ("missing_finish", "cut_clean"):
        return answer._replace(choices=tuple(choice._replace(finish=None) for choice in answer.choices))
    if fault.kind == "missing_usage":
        return answer._replace(with_usage=False)
    return answer


class Spoiling:
    """What an edit may look at: the fault, the request, the answer, and the dialect for its words."""

    __slots__ = ("answer", "dialect", "fault", "wanted")

    def __init__(self, fault: Fault, dialect: Dialect, wanted: Wanted, answer: Answer) -> None:
        self.fault = fault
        self.dialect = dialect
        self.wanted = wanted
        self.answer = answer


def spoil(reply: Reply, why: Spoiling) -> None:
    EDITS[why.fault.kind](reply, why)


def _cut_at(reply: Reply, after: int) -> int:
    """The index of the part before which a fault shows: after so many content parts (0: after the role parts)."""
    contents = 0
    for at, part in enumerate(reply.parts):
        if part.tag not in (Tag.ROLE, Tag.CONTENT) or (part.tag is Tag.CONTENT and contents == after):
            return at
        contents += part.tag is Tag.CONTENT
    return len(reply.parts)


def _halve(reply: Reply) -> None:
    """Half of a whole body, under the Content-Length of all of it."""
    body = reply.body()
    reply.length = len(body)
    reply.parts = [Part(body[: len(body) // 2])]


def _silent(end: End) -> Callable[[Reply, Spoiling], None]:
    def edit(reply: Reply, why: Spoiling) -> None:
        reply.framing = Framing.NONE
        reply.parts = [Part(b"", pause=reply.wait or None)]
        reply.end = end

    return edit


def _garbage(reply: Reply, why: Spoiling) -> None:
    reply.framing = Framing.NONE
    reply.parts = [Part(b"\x15\x03\x01\x00\x02\x02\x46 this is no HTTP\r\n\r\n", pause=reply.wait or None)]
    reply.end = End.FIN


def _early_hints(reply: Reply, why: Spoiling) -> None:
    reply.before = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n"


def _status(reply: Reply, why: Spoiling) -> None:
    complaint = STATUSES[why.fault.kind]
    _replace(reply, complaint.status, "application/json", why.dialect.error(complaint))
    for name, value in error_headers(why.dialect, complaint):
        reply.set_header(name, value)
    if why.fault.retry_after is not None:
        reply.set_header("retry-after", f"{why.fault.retry_after:g}")


def _replace(reply: Reply, status: int, content_type: str, body: bytes) -> None:
    reply.status = status
    reply.set_header("content-type", content_type)
    reply.framing = Framing.LENGTH
    reply.parts = [Part(body)]


def _html(status: int) -> Callable[[Reply, Spoiling], None]:
    def edit(reply: Reply, why: Spoiling) -> None:
        _replace(reply, status, "text/html; charset=utf-8", _HTML)

    return edit


def _redirect(reply: Reply, why: Spoiling) -> None:
    _replace(reply, 302, "text/html; charset=utf-8", b"")
    reply.set_header("location", "/redirected")


def _empty(reply: Reply, why: Spoiling) -> None:
    reply.parts = []


def _error_in_200(reply: Reply, why: Spoiling) -> None:
    _replace(reply, 200, "application/json", why.dialect.error(_MID_STREAM))


def _other_kind(reply: Reply, why: Spoiling) -> None:
    other = why.dialect.whole if reply.stream else why.dialect.stream
    turned = other(why.wanted, why.answer)
    reply.headers, reply.parts, reply.framing = turned.headers, turned.parts, turned.framing


def _as_rendered(reply: Reply, why: Spoiling) -> None:
    """The plan was spoilt already."""


def _done_only(reply: Reply, why: Spoiling) -> None:
    if reply.stream:
        reply.parts = [part for part in reply.parts if part.tag is Tag.DONE]
    else:
        reply.parts = [Part(b"{}")]


def _role_then_error(reply: Reply, why: Spoiling) -> None:
    if not reply.stream:
        _error_in_200(reply, why)
    else:
        reply.parts = [*reply.parts[: _cut_at(reply, 0)], Part(why.dialect.error_event(_MID_STREAM))]


def _slow_ttft(reply: Reply, why: Spoiling) -> None:
    seconds = SLOW_S if why.fault.seconds is None else why.fault.seconds
    at = _cut_at(reply, 0) if reply.stream else 0
    reply.wait = 0.0
    if at < len(reply.parts):
        reply.parts[at].pause = seconds


def _cut(end: End, pause: float | None) -> Callable[[Reply, Spoiling], None]:
    def edit(reply: Reply, why: Spoiling) -> None:
        if reply.stream:
            reply.parts = reply.parts[: _cut_at(reply, why.fault.after)]
            reply.terminated = False
        else:
            _halve(reply)
        if pause is not None:
            reply.parts.append(Part(b"", pause=pause))
        reply.end = end

    return edit


def _cut_clean(reply: Reply, why: Spoiling) -> None:
    if reply.stream:
        reply.parts = reply.parts[: _cut_at(reply, why.fault.after)]


def _slow_body(reply: Reply, why: Spoiling) -> None:
    if not reply.stream:
        _halve(reply)
    else:
        contents = [at for at, part in enumerate(reply.parts) if part.tag is Tag.CONTENT]
        at = contents[len(contents) // 2] if contents else 0
        data = reply.parts[at].data
        reply.parts = [*reply.parts[:at], Part(data[: len(data) // 2], pause=reply.parts[at].pause)]
        reply.terminated = False
    reply.end = End.HANG


def _truncated_json(reply: Reply, why: Spoiling) -> None:
    if not reply.stream:
        body = reply.body()
        reply.parts = [Part(body[: len(body) * 2 // 3])]
        return
    at = _cut_at(reply, why.fault.after)
    cut = [Part(part.data[: len(part.data) * 2 // 3], pause=part.pause) for part in reply.parts[at : at + 1]]
    reply.parts = reply.parts[:at] + cut


def _wrong_length(reply: Reply, why: Spoiling) -> None:
    length = len(reply.body())
    if reply.stream:
        reply.parts = reply.parts[: _cut_at(reply, why.fault.after)]
        reply.length = length
    else:
        reply.length = length + 100
    reply.framing = Framing.LENGTH
    reply.end = End.FIN


def _short_length(reply: Reply, why: Spoiling) -> None:
    reply.length = len(reply.body()) // 2
    reply.framing = Framing.LENGTH
    reply.end = End.FIN


def _bad_chunk(reply: Reply, why: Spoiling) -> None:
    if reply.stream:
        at = _cut_at(reply, why.fault.after)
    else:
        body = reply.body()
        reply.parts = [Part(body[: len(body) // 2]), Part(body[len(body) // 2 :])]
        at = 1
    reply.framing = Framing.CHUNKED
    reply.parts.insert(at, Part(b"no size\r\n", framed=False))


def _malformed(reply: Reply, why: Spoiling) -> None:
    if not reply.stream:
        body = reply.body()
        at = len(body) // 2 if why.fault.after else 1
        reply.parts = [Part(body[:at] + b'{"broken":,' + body[at:])]
        return
    # A real event is damaged, so that a reader who skips it does lose content.
    at = _cut_at(reply, why.fault.after)
    event = reply.parts.pop(at)
    cut = event.data[: len(event.data) * 2 // 3].rstrip(b"\n")
    reply.parts.insert(at if why.fault.after else 0, Part(cut + b"\n\n", event.tag, event.pause))


def _error_event(reply: Reply, why: Spoiling) -> None:
    if not reply.stream:
        _error_in_200(reply, why)
    else:
        at = _cut_at(reply, why.fault.after) if why.fault.after else 0
        reply.parts = [*reply.parts[:at], Part(why.dialect.error_event(_MID_STREAM))]


def _big_line(reply: Reply, why: Spoiling) -> None:
    if not reply.stream:
        reply.parts = [Part(b"x" * BIG_LINE)]
        return
    at = _cut_at(reply, why.fault.after)
    reply.parts.insert(at, Part(why.dialect.content_event(why.wanted, why.answer, "x" * BIG_LINE), Tag.CONTENT))


def _missing_done(reply: Reply, why: Spoiling) -> None:
    reply.parts = [part for part in reply.parts if part.tag is not Tag.DONE]


def _extra_after_done(reply: Reply, why: Spoiling) -> None:
    extra = why.dialect.content_event(why.wanted, why.answer, " nobody should read this") if reply.stream else b"\n\n"
    reply.parts.append(Part(extra))


def _split_utf8(reply: Reply, why: Spoiling) -> None:
    parts = []
    for part in reply.parts:
        rest, pause = part.data, part.pause
        while (at := next((at for at, byte in enumerate(rest) if byte >= 0xC0), -1)) >= 0:
            parts.append(Part(rest[: at + 1], part.tag, pause))
            rest, pause = rest[at + 1 :], 0.0
        parts.append(Part(rest, part.tag, pause))
    reply.parts = parts


def _crlf(reply: Reply, why: Spoiling) -> None:
    if reply.stream and isinstance(why.dialect, Framed):
        return  # Messages have no lines.
    for part in reply.parts:
        part.data = part.data.replace(b"\n", b"\r\n") if reply.stream else part.data.replace(b',"', b',\r\n"')


def _comments(reply: Reply, why: Spoiling) -> None:
    comment = b": SIMULATED PROCESSING\n\n" if reply.stream else b"\n\n"
    if reply.stream and isinstance(why.dialect, Framed):
        comment = why.dialect.idle_event()
    for part in reply.parts:
        part.data = comment + part.data


def _byte_by_byte(reply: Reply, why: Spoiling) -> None:
    reply.single_bytes = True


def _gzip(reply: Reply, why: Spoiling) -> None:
    reply.set_header("content-encoding", "gzip")
    if not reply.stream:
        reply.parts = [Part(gzip.compress(reply.body(), mtime=0))]
        return
    packer = zlib.compressobj(wbits=31)
    for part in reply.parts:
        part.data = packer.compress(part.data) + packer.flush(zlib.Z_SYNC_FLUSH)
    reply.parts.append(Part(packer.flush()))


EDITS: dict[str, Callable[[Reply, Spoiling], None]] = {
    "refuse": _silent(End.RESET),
    "reset_before_headers": _silent(End.RESET),
    "close_before_headers": _silent(End.FIN),
    "hang_before_headers": _silent(End.HANG),
    "garbage": _garbage,
    "early_hints": _early_hints,
    **dict.fromkeys(STATUSES, _status),
    "html_502": _html(502),
    "redirect_302": _redirect,
    "html_200": _html(200),
    "empty_200": _empty,
    "error_in_200": _error_in_200,
    "sse_for_json": _other_kind,
    "json_for_sse": _other_kind,
    "empty_choices": _as_rendered,
    "done_only": _done_only,
    "role_then_error": _role_then_error,
    "slow_ttft": _slow_ttft,
    "cut_mid_stream": _cut(End.FIN, None),
    "cut_reset": _cut(End.RESET, _PAUSE_S),
    "cut_clean": _cut_clean,
    "stall_mid_stream": _cut(End.HANG, None),
    "slow_body": _slow_body,
    "truncated_json": _truncated_json,
    "wrong_content_length": _wrong_length,
    "wrong_content_length_short": _short_length,
    "bad_chunk": _bad_chunk,
    "malformed_sse": _malformed,
    "error_event": _error_event,
    "big_line": _big_line,
    "missing_finish": _as_rendered,
    "missing_usage": _as_rendered,
    "missing_done": _missing_done,
    "extra_after_done": _extra_after_done,
    "split_utf8": _split_utf8,
    "crlf": _crlf,
    "comments": _comments,
    "byte_by_byte": _byte_by_byte,
    "gzip": _gzip,
}
