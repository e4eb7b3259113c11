"""Does an answer keep the rules of OpenAI's form? What does is passed on byte for byte, what does not is rewritten.

The rules are those of the `openai` package's types (2.54) and of streams that its helpers can put together. Unknown
members are sound everywhere. Beyond the types: reasoning has one name, `reasoning_content`, and an answer with calls
ends with `tool_calls`, which agents branch on (OpenAI itself says `stop` after a call it was forced to make).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from proxy.providers import tidy
from proxy.wire.chunk import Json
from proxy.wire.request import Known
from proxy.wire.scribe import FINISH_REASONS

_ROLES = (None, "assistant")
_TEXT = Known({"role": (str,), "content": (str,), "refusal": (), "annotations": (list,)})
_HEAD = Known(
    {
        "object": (str,), "id": (str,), "created": (int,), "model": (str,), "choices": (list,), "usage": (dict,),
        "service_tier": (str,), "system_fingerprint": (str,), "obfuscation": (str,),
    }
)  # fmt: skip
"""What nearly every answer has, and no more."""
_COUNTS = {int, type(None)}


class Spoken:
    """What a choice of a stream has said so far: enough to go on with it in the strict decoder."""

    __slots__ = ("bare", "calls", "reason", "text")

    def __init__(self) -> None:
        self.reason: str | None = None
        self.text = False
        self.calls: list[tuple[str, str]] = []
        """Id and name."""
        self.bare: set[int] = set()
        """Numbers of the calls whose arguments have not begun."""


def is_sound_body(body: Json) -> bool:
    """A whole answer."""
    choices = body.get("choices")
    return (
        body.get("object") == "chat.completion"
        and _is_headed(body)
        and _is_usage(body.get("usage"))
        and type(choices) is list
        and all(map(_is_sound_choice, choices))
    )


_TIERS = (None, *tidy.SERVICE_TIERS)


def _is_headed(body: Json) -> bool:
    id, model = body.get("id"), body.get("model")
    if id and model and body.get("created") is not None and _HEAD.holds(body):
        return body.get("service_tier") in _TIERS
    if not id or type(id) is not str or not model or type(model) is not str or type(body.get("created")) is not int:
        return False
    return _are_names(body)


def _are_names(body: Json) -> bool:
    """Members of the answer that are names, where they are there; the tier is one of a closed set."""
    tier, mark, pad = body.get("service_tier"), body.get("system_fingerprint"), body.get("obfuscation")
    if tier is not None and (type(tier) is not str or tier not in tidy.SERVICE_TIERS):
        return False
    return (mark is None or type(mark) is str) and (pad is None or type(pad) is str)


def _is_sound_choice(choice: Any) -> bool:
    message = choice.get("message") if type(choice) is dict else None
    if type(message) is not dict or type(choice.get("index")) is not int:
        return False
    if _is_text(message) and choice.get("logprobs") is None:
        return _may_end(choice.get("finish_reason"), False, ())
    calls = message.get("tool_calls")
    noted = message.get("annotations")
    audio = message.get("audio")
    legacy = message.get("function_call")
    return (
        _may_end(choice.get("finish_reason"), bool(calls), ())
        and message.get("role") == "assistant"
        and not (message.get("reasoning") and "reasoning_content" not in message)
        and type(message.get("content")) in (str, type(None))
        and type(message.get("refusal")) in (str, type(None))
        and (calls is None or (type(calls) is list and _are_calls(calls)))
        and (noted is None or (type(noted) is list and all(map(tidy.is_citation, noted))))
        and (audio is None or (type(audio) is dict and tidy.is_audio(audio)))
        and (legacy is None or (type(legacy) is dict and _is_told(legacy, "name") and _is_told(legacy, "arguments")))
        and _is_logprobs(choice.get("logprobs"))
    )


def _is_text(message: Json) -> bool:
    """Text and nothing else: nearly every answer."""
    return (
        message.get("role") == "assistant"
        and message.get("content") is not None
        and not message.get("annotations")
        and _TEXT.holds(message)
    )


def _may_end(reason: object, called: bool, bare: Collection[int]) -> bool:
    """`bare`: calls that still lack their arguments."""
    if type(reason) is not str or reason not in FINISH_REASONS:
        return False
    return reason == "length" or not (bare or (called and reason == "stop"))


def _is_told(held: Json, name: str) -> bool:
    return type(held.get(name)) is str and bool(held[name])


def _are_calls(calls: list[Any]) -> bool:
    ids = set()
    for call in calls:
        if type(call) is not dict or not _is_told(call, "id"):
            return False
        ids.add(call["id"])
        kind = call.get("type")
        told = call.get(kind) if kind in ("function", "custom") else None
        if type(told) is not dict or not _is_told(told, "name"):
            return False
        if kind == "function" and not _is_told(told, "arguments"):
            return False
    return len(ids) == len(calls)


def _is_logprobs(told: Any) -> bool:
    return told is None or (type(told) is dict and tidy.logprobs(told) == {"content": None, "refusal": None, **told})


def _is_usage(usage: Any) -> bool:
    """The three counts, and no part larger than its whole."""
    if usage is None:
        return True
    if type(usage) is not dict:
        return False
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    total = usage.get("total_tokens")
    if type(prompt) is not int or type(completion) is not int or total != prompt + completion:
        return False
    read = usage.get("prompt_tokens_details")
    wrote = usage.get("completion_tokens_details")
    if read is None and wrote is None:
        return True
    return _are_parts(read, prompt, "cached_tokens") and _are_parts(wrote, completion, "reasoning_tokens")


def _are_parts(details: Any, whole: int, name: str) -> bool:
    if details is None:
        return True
    if type(details) is not dict:
        return False
    return _COUNTS.issuperset(map(type, details.values())) and (details.get(name) or 0) <= whole


class SoundStream:
    """Asks of chunk after chunk whether it may be passed on, given those before it."""

    __slots__ = ("choices", "counted", "created", "id", "model", "plain", "usage_throughout")

    def __init__(self, usage_throughout: bool) -> None:
        self.usage_throughout = usage_throughout
        """The client asked for usage on every chunk (vLLM's `continuous_usage_stats`)."""
        self.id: str | None = None
        self.created = 0
        self.model = ""
        self.choices: dict[int, Spoken] = {}
        self.counted = False
        """Usage was told."""
        self.plain = False
        """The last chunk that was taken says some text and nothing else."""

    def takes(self, body: Json) -> bool:
        """The chunk is sound, and is now counted as told. One that is not leaves nothing behind."""
        choices = body.get("choices")
        if body.get("object") != "chat.completion.chunk" or type(choices) is not list:
            return False
        self.plain = len(choices) == 1 and self._is_text(choices[0]) and body.get("usage") is None
        if self.plain:
            return self._goes_on(body)
        if self.id is None:
            if not choices or not _is_headed(body):
                return False
        elif not self._goes_on(body):
            return False
        usage = body.get("usage")
        if usage is not None and not self._may_count(usage, choices):
            return False
        if len(choices) > 1 and len({one.get("index") for one in choices if type(one) is dict}) < len(choices):
            return False
        if not all(map(self._may_say, choices)):
            return False
        for one in choices:
            self._say(one)
        if self.id is None:
            self.id, self.created, self.model = body["id"], body["created"], body["model"]
        self.counted = self.counted or usage is not None
        return True

    def ticked(self, body: Json) -> bool:
        """The chunk tells a later time than the stream began with, as a server's clock would."""
        created = body.get("created")
        return self.id is not None and type(created) is int and created > self.created

    def _is_text(self, told: Any) -> bool:
        """Some text of a choice that has said some before: nearly every chunk of most streams."""
        if type(told) is not dict or told.get("finish_reason") is not None or told.get("logprobs") is not None:
            return False
        index, delta = told.get("index"), told.get("delta")
        one = self.choices.get(index) if type(index) is int else None
        if one is None or not one.text or one.reason is not None:
            return False
        return type(delta) is dict and len(delta) == 1 and type(delta.get("content")) is str

    def headed(self, body: Json) -> Json:
        """The chunk under the stream's own id, time and model: llama.cpp has an id for each choice."""
        return {**body, "id": self.id, "created": self.created, "model": self.model}

    def _goes_on(self, body: Json) -> bool:
        if body.get("id") != self.id or body.get("created") != self.created or body.get("model") != self.model:
            return False
        named = "service_tier" in body or "system_fingerprint" in body or "obfuscation" in body
        return not named or _are_names(body)

    def _may_count(self, usage: Any, choices: list[Any]) -> bool:
        if self.usage_throughout:
            return _is_usage(usage)
        done = all(one.reason is not None for one in self.choices.values())
        return not choices and not self.counted and done and _is_usage(usage)

    def _may_say(self, told: Any) -> bool:
        delta = told.get("delta") if type(told) is dict else None
        index = told.get("index") if type(told) is dict else None
        if type(delta) is not dict or type(index) is not int:
            return False
        one = self.choices.get(index)
        if one is None:
            if delta.get("role") != "assistant":
                return False
            one = Spoken()
        elif one.reason is not None:
            return False
        content = delta.get("content")
        if content is not None and type(content) is not str:
            return False
        reason = told.get("finish_reason")
        bare, called = one.bare, bool(one.calls)
        if len(delta) > 1 or content is None:
            calls = delta.get("tool_calls")
            if calls is not None:
                if type(calls) is not list or not _are_pieces(calls, one.calls):
                    return False
                called = called or bool(calls)
                begun = {piece["index"] for piece in calls if piece["index"] >= len(one.calls)}
                bare = (bare | begun) - {piece["index"] for piece in calls if piece["function"].get("arguments")}
            if delta.get("role") not in _ROLES or type(delta.get("refusal")) not in (str, type(None)):
                return False
            if delta.get("reasoning") and "reasoning_content" not in delta:
                return False
            legacy = delta.get("function_call")
            if legacy is not None and type(legacy) is not dict:
                return False
        if reason is not None and not _may_end(reason, called, bare):
            return False
        return told.get("logprobs") is None or _is_logprobs(told["logprobs"])

    def _say(self, told: Json) -> None:
        index, delta = told["index"], told["delta"]
        one = self.choices.get(index)
        if one is None:
            one = self.choices[index] = Spoken()
        one.text = one.text or bool(delta.get("content"))
        for piece in delta.get("tool_calls") or ():
            function = piece["function"]
            if piece["index"] == len(one.calls):
                one.calls.append((piece["id"], function["name"]))
                one.bare.add(piece["index"])
            if function.get("arguments"):
                one.bare.discard(piece["index"])
        one.reason = told.get("finish_reason")


def _are_pieces(calls: list[Any], known: list[tuple[str, str]]) -> bool:
    """Pieces of calls: each begins the next one, or goes on with one that began."""
    begun, ids = len(known), {id for id, _ in known}
    for piece in calls:
        function = piece.get("function") if type(piece) is dict else None
        if type(function) is not dict:
            return False
        index = piece.get("index")
        if index == begun and type(index) is int:
            if not _is_told(piece, "id") or piece.get("type") != "function" or not _is_told(function, "name"):
                return False
            if piece["id"] in ids:
                return False
            ids.add(piece["id"])
            begun += 1
        elif type(index) is not int or not 0 <= index < begun or piece.get("id") or function.get("name"):
            return False
        if type(function.get("arguments", "")) is not str:
            return False
    return True
