"""What a dialect is: pure functions between our form and a provider's. No I/O, no clock, no randomness.

A dialect builds the upstream request, decodes the bytes of the answer into chunks, and reads errors. It is given
bytes and gives back values; who sends and who waits is not its business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from proxy.errors import UpstreamError
from proxy.providers.quirks import PLAIN, Quirks
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import Chunk, Json, Usage
from proxy.wire.request import Request

ANSWER_LIMIT = 64 * 1024 * 1024
"""Bytes of one answer that is not streamed."""

Headers = Sequence[tuple[bytes, bytes]]
Sign = Callable[[str, str, str, bytes, float], Headers]
"""Method, the value of Host, path with query, body, and the time in seconds since the epoch: the headers to add."""


class Endpoint(NamedTuple):
    """Where and how one target is reached, compiled from the config once."""

    provider: str
    base_url: str
    """What stands before the dialect's own paths, without a trailing slash."""
    model: str
    """The model's name upstream."""
    verbatim: bool = True
    """The answer may reach the client byte for byte."""
    usage_in_stream: bool = True
    """`stream_options.include_usage` may be asked for."""
    params: dict[str, Any] | None = None
    """Values for what a request leaves out."""
    force: dict[str, Any] | None = None
    """Values that win over the request."""
    headers: tuple[tuple[str, str], ...] = ()
    region: str = ""
    """Where the provider's signatures are good, if it wants any."""
    api_version: str = ""
    """Of the `azure` dialect's addresses."""
    deployment: str = ""
    """The name under which the model runs, if it is not the model's (azure)."""
    operations: frozenset[str] | None = None
    """What it has beside chat, of what its dialect can be asked for; None: all of it."""
    quirks: Quirks = PLAIN
    """In what the provider differs, where its answers are not passed on byte for byte."""
    known: str = ""
    """The row of the catalog that it is, or is `like`; empty for none."""


class Built(NamedTuple):
    """The body to send, and what it could not say."""

    body: bytes
    dropped: tuple[str, ...] = ()
    """Parameters of the request that this dialect or model does not take, by name."""
    headers: Headers = ()
    """Headers of this one call."""
    sent: Json | None = None
    """What the body says, without the prompt and the model's name (`wire.request.parameters`)."""


class Minted(NamedTuple):
    """What an answer needs and some providers do not send."""

    id: str
    created: int
    """Seconds since the epoch."""


class Decoder(Protocol):
    """Reads one answer. The facts are whole once `close` has returned."""

    model: str | None
    """As the upstream reported it."""
    finish_reason: str | None
    usage: Usage | None
    ended: bool
    """The end marker has come: whatever follows is of no interest."""

    def feed(self, data: bytes) -> list[Chunk]:
        """The chunks that `data` completes, in order.

        Raises `UpstreamError`: MALFORMED for what is no answer, or the kind of an error told inside the answer. The
        chunks before the fault are then in `pending`.
        """
        ...

    def close(self, cut: bool = False) -> list[Chunk]:
        """The transport ended; `cut`: not as it should have. Raises `UpstreamError` unless the answer is whole.

        A stream whose every choice has its finish reason is whole, even if its end marker never came.
        """
        ...

    pending: list[Chunk]
    """Chunks decoded in the very call that raised."""


R = TypeVar("R", bound=Request, contravariant=True)


class Speaker(Protocol[R]):
    """One operation of an API: where it is asked for, in which words, and how its answer is read."""

    def path(self, to: Endpoint, stream: bool) -> str:
        """What follows the base URL, with its query."""
        ...

    def build(self, ask: R, to: Endpoint) -> Built:
        """Raises `Refusal` (400) for a request that cannot be put into this dialect."""
        ...

    def decoder(self, ask: R, to: Endpoint, minted: Minted) -> Decoder: ...


class Provider(Speaker[ChatRequest], Protocol):
    """A dialect. It speaks chat completions itself; what else it can do is listed by `Natives`."""

    dialect: str

    def headers(self, to: Endpoint, credential: str | None, stream: bool) -> Headers:
        """The headers that stay the same from call to call."""
        ...

    def error(self, status: int, headers: Headers, body: bytes) -> UpstreamError:
        """Classifies an answer with an error status: by body first, by status second."""
        ...


@runtime_checkable
class PerCall(Protocol):
    """A speaker whose requests bring headers of their own in the place of the fixed ones."""

    per_call: frozenset[bytes]
    """Names in lower case."""


@runtime_checkable
class Lists(Protocol):
    """A provider that tells which models it has, to a GET."""

    def models_path(self, to: Endpoint) -> str:
        """What follows the base URL, with its query."""
        ...

    def models_in(self, body: Any) -> list[Any]:
        """Their names, as a request would have them. Raises KeyError or TypeError for what is no list of models."""
        ...


@runtime_checkable
class Natives(Protocol):
    """A provider that can be asked for more than chat: operation -> who speaks it."""

    natives: Mapping[str, Speaker[Any]]


@runtime_checkable
class Signs(Protocol):
    """A provider whose requests must be signed one by one, since the signature covers the body and the time."""

    def signer(self, to: Endpoint, credential: str | None) -> Sign | None:
        """None where the headers that stay the same are enough for this credential."""
        ...
