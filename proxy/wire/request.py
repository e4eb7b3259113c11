"""A request in whatever form it came: a typed view over JSON that is otherwise kept as it came.

Only what the proxy itself reads is looked at; every other field, known to us or not, reaches the upstream untouched.
Where a field must change (the model's name, say), the bytes are edited in place, so that number formats, key order
and unknown fields survive.

Each form of request is a subclass, and names its *operation*. A target that can do the operation in the very same
words is asked natively. For all others a form may offer itself as a chat completion (`as_chat`), and puts the chunks
of the answer back into its own words (`writer`): forms in and dialects out meet in one place, never pairwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import copy
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import orjson

from proxy.errors import Refusal
from proxy.wire import prompt
from proxy.wire.chunk import Chunk, Json
from proxy.wire.render import OPENAI, Form

if TYPE_CHECKING:
    from proxy.wire.chat import ChatRequest

Headers = Sequence[tuple[bytes, bytes]]

MODEL_LIMIT = 512
"""Characters of a model's name: it goes into headers and records."""

CHAT = "chat"
"""The operation that every dialect knows, and into which other forms are translated."""

CARRIED = b"wb1."
"""How text begins that we put in a signature's place; see `proxy.forms.carried`."""

_MODEL = re.compile(rb'"model"\s*:\s*"((?:[^"\\]|\\.)*)"')
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Writer(Protocol):
    """Puts one answer into the client's form."""

    def stream(self, chunks: Sequence[Chunk]) -> bytes:
        """The events that these chunks become; may be empty."""
        ...

    def whole(self, chunk: Chunk) -> bytes:
        """The answer that is not streamed."""
        ...

    def broken(self, message: str, *, type: str, code: str) -> bytes:
        """The event that ends a stream which cannot be finished."""
        ...


class Request:
    """A request whose outer form has been checked. `body` is the parsed JSON and must not be changed."""

    __slots__ = ("_tokens", "body", "model", "onward", "raw", "stream", "wants_usage")

    operation: ClassVar[str] = ""
    """What is asked for, by a name that providers' native operations have as well."""
    form: ClassVar[Form] = OPENAI
    """How its answers, errors and broken streams look."""
    twins: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Fields that count as one: each name with the others that mean the same."""
    headers: Headers = ()
    """Those of the client's that a target which speaks this form must see."""
    wants_events = False
    """Of an answer that need not be events: they are asked for."""
    translates: ClassVar[bool] = False
    """`as_chat` is worth a try."""

    def __init__(self, raw: bytes, body: Json) -> None:
        self.raw = raw
        self.body = body
        self.model: str = body["model"]
        self.stream: bool = body.get("stream") is True
        self._tokens: int | None = None
        self.onward: Json | None = None
        """What the client says to whoever routes after us (`Quirks.routes`); nobody else knows it."""
        self.wants_usage = True
        """Usage in the stream is the client's own wish; otherwise it is taken out again."""

    @classmethod
    def parse(cls, raw: bytes, headers: Headers = ()) -> Self:
        """Raises `Refusal` (400) with the parameter at fault and how to mend it. `headers`: the client's."""
        body = parse_object(raw)
        check_model(body)
        return cls(raw, body)

    def with_body(self, body: Json) -> Self:
        """The same request with another body. Raises `Refusal` (400) where it is nested too deep."""
        one = copy(self)
        one.body, one.raw, one._tokens = body, dumped(body), None
        return one

    @property
    def tokens(self) -> int:
        """Of the prompt: an estimate that is made once, when it is first wanted, as it costs up to 0.2 ms."""
        if self._tokens is None:
            self._tokens = prompt.tokens(self.body)
        return self._tokens

    @property
    def reasons(self) -> bool:
        """The model is asked to think first, so that its first content may be long in coming."""
        return False

    @property
    def repeatable(self) -> bool:
        """It may be sent again after an upstream had it: asking twice leaves nothing behind."""
        return True

    def as_chat(self) -> ChatRequest:
        """The same request as a chat completion. Raises `Refusal` (400) naming what chat cannot say."""
        raise Refusal(400, f"`{self.operation}` cannot be asked of this target.", code="unsupported_operation")

    def stand_in(self) -> bytes | None:
        """An answer of the proxy's own, for when no target can be asked; None where there is none."""
        return None

    def writer(self, native: bool, id: str) -> Writer | None:
        """Who writes the answer; None where the upstream's bytes are the answer. `id`: unique to the exchange."""
        return None

    def for_upstream(
        self,
        model: str,
        *,
        ask_usage: bool = False,
        params: Mapping[str, Any] | None = None,
        force: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The body to send: the model replaced, usage asked for, defaults added and forced values set.

        `params` fill in what the request leaves out; `force` wins over it; names in `twins` count as one. Raises
        `Refusal` where the body cannot be written again (nested too deep).
        """
        body = self.body
        added: Json = {}
        if ask_usage and self.stream and not self.wants_usage:
            options = body.get("stream_options")
            if options is not None or "stream_options" in body:
                force = {**(force or {}), "stream_options": {**(options or {}), "include_usage": True}}
            else:
                added["stream_options"] = {"include_usage": True}
        if params:
            added.update({key: value for key, value in params.items() if not self._given(key)})
        if not force and not (added and any(key in body for key in added)):
            spliced = self._spliced(model, added)
            if spliced is not None:
                return spliced
        whole = {**body, **added, "model": model}
        self._force(whole, force)
        return dumped(whole)

    def sent(
        self,
        *,
        ask_usage: bool = False,
        params: Mapping[str, Any] | None = None,
        force: Mapping[str, Any] | None = None,
    ) -> Json:
        """The parameters of the body that `for_upstream` makes of the same."""
        whole = parameters(self.body)
        if ask_usage and self.stream:
            whole["stream_options"] = {**(whole.get("stream_options") or {}), "include_usage": True}
        if params:
            whole.update({key: value for key, value in params.items() if not self._given(key)})
        if force:
            self._force(whole, force)
        return whole

    def filled(self, params: Mapping[str, Any] | None = None, force: Mapping[str, Any] | None = None) -> Json:
        """The body with `params` and `force` as in `for_upstream`, without nulls: what a translation starts from."""
        whole = {key: value for key, value in self.body.items() if value is not None}
        if params:
            whole.update({key: value for key, value in params.items() if not self._given(key)})
        self._force(whole, force)
        return whole

    def _force(self, whole: Json, force: Mapping[str, Any] | None) -> None:
        for key, value in (force or {}).items():
            for twin in self.twins.get(key, ()):
                whole.pop(twin, None)
            whole[key] = value

    def _given(self, key: str) -> bool:
        body = self.body
        return body.get(key) is not None or any(body.get(twin) is not None for twin in self.twins.get(key, ()))

    def _spliced(self, model: str, added: Json) -> bytes | None:
        """The bytes with the edits made in place; None where that is not certain to be right.

        Certain means: the characters `"model"` stand in the body once, followed by the very value that was parsed,
        and no escaped letter could have spelled the key a second time.
        """
        raw = self.raw
        at = raw.find(b'"model"')
        if at < 0 or raw.find(b'"model"', at + 7) >= 0 or b"\\u00" in raw:
            return None
        if model != self.model:
            match = _MODEL.match(raw, at)
            if match is None or match[1] != self.model.encode():
                return None
            start, end = match.span(1)
            raw = b"%b%b%b" % (raw[: start - 1], orjson.dumps(model), raw[end + 1 :])
        if added:
            raw = b"%b,%b" % (raw.rstrip(b" \t\r\n")[:-1], orjson.dumps(added)[1:])
        return raw


def answer_limit(body: Json) -> int | None:
    """The most tokens that the answer may have; None where the request does not say."""
    most = body.get("max_completion_tokens") or body.get("max_tokens") or body.get("max_output_tokens")
    return most if type(most) is int and most > 0 else None


PROMPT = frozenset(
    {"model", "messages", "contents", "system", "systemInstruction", "input", "instructions", "prompt", "documents"}
)
"""Members of requests, in every dialect, that are no parameters: what is asked, and of which model."""


def parameters(body: Json) -> Json:
    """The members of a body that say how to answer: without the prompt and the model's name."""
    told = body.copy()
    for key in PROMPT.intersection(body):
        del told[key]
    if None in told.values():
        return {key: value for key, value in told.items() if value is not None}
    return told


def fingerprint(sent: Json | None) -> str | None:
    """16 hexadecimal digits, the same for the same parameters whatever their order; None where none are known."""
    if sent is None:
        return None
    try:
        told = orjson.dumps(sent, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        return None
    return blake2b(told, digest_size=8).hexdigest()


def dumped(body: Json) -> bytes:
    """Raises `Refusal` (400) where the body cannot be written again."""
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        raise Refusal(400, f"The request body cannot be passed on: {error}. Nest it less deeply.") from error


def wrong(param: str, message: str, code: str = "invalid_type") -> Refusal:
    """A field that is not as it must be."""
    return Refusal(400, message, param=param, code=code)


def parse_object(raw: bytes, needs: str = "`model`") -> Json:
    """The request body as an object. Raises `Refusal` (400); `needs` names what must be in it."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if not raw.strip():
            raise Refusal(400, f"The request body is empty. Send a JSON object with {needs}.") from None
        raise Refusal(400, f"The request body is not valid JSON in UTF-8: {error}.", code="invalid_json") from None
    if type(body) is not dict:
        raise Refusal(400, f"The request body must be a JSON object with {needs}.", code="invalid_type")
    return body


def check_model(body: Json) -> None:
    """Raises `Refusal` (400) unless the body names a model."""
    model = body.get("model")
    if type(model) is not str or not model:
        message = "`model` is missing." if model is None else "`model` must be a non-empty string."
        raise wrong("model", f"{message} Name a route or `provider/model`; GET /v1/models lists them.")
    if len(model) > MODEL_LIMIT or _CONTROL.search(model):
        message = f"`model` must be at most {MODEL_LIMIT} characters without control characters."
        raise wrong("model", message, "invalid_value")


Types = tuple[tuple[type, ...], str]
"""What a field may be, and the words for it."""

NUMBER: Types = ((int, float), "a number")
INTEGER: Types = ((int,), "an integer")
STRING: Types = ((str,), "a string")
BOOLEAN: Types = ((bool,), "true or false")
OBJECT: Types = ((dict,), "an object")
ARRAY: Types = ((list,), "an array")


class Known:
    """Members with the types that they may be of. Where all are as they should be, that is found in one step."""

    __slots__ = ("_good",)

    def __init__(self, types: Mapping[str, tuple[type, ...]]) -> None:
        self._good = frozenset((key, one) for key, allowed in types.items() for one in (*allowed, type(None)))

    def holds(self, body: Json) -> bool:
        """Every member of the body is known, and is null or of its type."""
        return self._good.issuperset(zip(body, map(type, body.values()), strict=True))


def check_types(body: Json, types: Mapping[str, Types]) -> None:
    """Raises `Refusal` (400) for a known field of the wrong JSON type; null always means "not given"."""
    for key, value in body.items():
        if value is not None and key in types:
            allowed, words = types[key]
            if type(value) not in allowed:
                raise wrong(key, f"`{key}` must be {words}, not {named(value)}.")


def named(value: object) -> str:
    """The JSON type of a value, in words."""
    names = {str: "a string", int: "an integer", float: "a number", list: "an array", dict: "an object"}
    return names.get(type(value), "true or false")
