"""What a dialect of the simulated upstream is: it reads requests and renders planned answers.

A dialect is one file with one class of this form, named in `DIALECTS` of `proxy.simulated.server`.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from proxy.simulated.answer import Answer, Complaint, Wanted
from proxy.simulated.reply import Reply


class Request(NamedTuple):
    method: str
    path: str
    """Without the query."""
    headers: dict[str, str]
    """Names in lower case; of a repeated name the last value."""
    body: bytes
    json: object = None
    """The body, parsed; None where it is not JSON."""


class Rules(NamedTuple):
    """What the simulated account allows."""

    models: tuple[str, ...] = ()
    """Known models; every name is known where this is empty."""
    api_key: str | None = None
    strict: bool = False
    """Refuse fields that the API does not know."""
    refused: tuple[str, ...] = ()
    """Fields that are refused though the API knows them (the OpenAI dialect)."""


class Dialect(Protocol):
    name: str
    prefix: str
    """What a base URL ends in."""

    def answers(self, method: str, path: str) -> bool:
        """Whether a model answers here, with faults and latency."""
        ...

    def other(self, request: Request, rules: Rules) -> Reply:
        """Any other path of the API. Raises Complaint."""
        ...

    def read(self, request: Request, rules: Rules) -> Wanted:
        """Raises Complaint for what the real API would refuse."""
        ...

    def whole(self, wanted: Wanted, answer: Answer) -> Reply: ...

    def stream(self, wanted: Wanted, answer: Answer) -> Reply: ...

    def error(self, complaint: Complaint) -> bytes:
        """The body of an error."""
        ...

    def error_event(self, complaint: Complaint) -> bytes:
        """An error inside a stream, as a whole event."""
        ...

    def content_event(self, wanted: Wanted, answer: Answer, text: str) -> bytes:
        """An event that adds `text` to the first choice."""
        ...


@runtime_checkable
class Framed(Protocol):
    """A dialect whose streams are binary messages, and which tells in a header what kind an error is."""

    def error_headers(self, complaint: Complaint) -> list[tuple[str, str]]: ...

    def idle_event(self) -> bytes:
        """A message that says nothing, in the place of a comment."""
        ...


def error_headers(dialect: Dialect, complaint: Complaint) -> list[tuple[str, str]]:
    return dialect.error_headers(complaint) if isinstance(dialect, Framed) else []
