"""An answer that is nearly OpenAI's and not streamed, rewritten into OpenAI's strict shape."""

from __future__ import annotations

import orjson

from proxy.providers import tidy
from proxy.providers.base import Endpoint, Minted
from proxy.providers.citations import citations_of
from proxy.providers.errors import error_in, is_error, told_in_answer
from proxy.providers.frame import malformed
from proxy.providers.openai import BodyDecoder
from proxy.providers.strict_calls import MEMBERS, Call, failed, is_whole, own_id
from proxy.wire.chunk import CONTENT, Chunk, Json


class StrictBody(BodyDecoder):
    """An answer that is not streamed, rewritten."""

    __slots__ = ("_minted", "_to")

    def __init__(self, to: Endpoint, minted: Minted) -> None:
        super().__init__()
        self._to = to
        self._minted = minted

    def close(self, cut: bool = False) -> list[Chunk]:
        raw = b"".join(self._parts)
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise malformed(f"the answer is not JSON: {error}") from error
        if type(body) is not dict:
            raise malformed("the answer is not a JSON object")
        choices = body.get("choices")
        if body.get("error") or (choices is None and is_error(body)):
            raise told_in_answer(error_in(raw), "an error with a success status")
        if type(choices) is not list or not choices:
            raise malformed("an answer without choices")
        model = body.get("model")
        self.model = model if type(model) is str and model else None
        whole: Json = {
            "id": body.get("id") if type(body.get("id")) is str and body["id"] else self._minted.id,
            "object": "chat.completion",
            "created": tidy.created(body) or self._minted.created,
            "model": self.model or self._to.model,
            "choices": [self._whole(place, told, body) for place, told in enumerate(choices)],
            **tidy.head(body),
        }
        told = tidy.usage_in(body)
        counted = tidy.usage(told, self._to.quirks, body.get("service_tier")) if told else None
        if counted is not None:
            self.usage, whole["usage"] = counted
        self.finish_reason = whole["choices"][0]["finish_reason"]
        self.ended = True
        return [Chunk(CONTENT, orjson.dumps(whole), whole)]

    def _whole(self, place: int, told: object, body: Json) -> Json:
        if type(told) is not dict or type(told.get("finish_reason")) is not str:
            raise malformed("a choice without a finish reason")
        reason = told["finish_reason"]
        if reason in tidy.FAILED:
            raise failed(told, reason)
        source = told.get("message")
        if type(source) is not dict:
            # Azure leaves the message out where its filter took it.
            if reason != "content_filter":
                raise malformed("a choice without a message")
            source = {}
        message = self._message(source, reason, body)
        finish = tidy.finish(reason or "stop", "tool_calls" in message)
        index = told.get("index")
        shown: Json = {"index": index if type(index) is int else place, "message": message}
        shown["logprobs"] = tidy.logprobs(told.get("logprobs"))
        shown["finish_reason"] = finish
        for key, value in told.items():
            if key not in shown and key not in ("delta", "usage") and value is not None:
                shown[key] = value
        return shown

    def _message(self, source: Json, reason: str, body: Json) -> Json:
        text, reasoning = tidy.texts(source)
        refusal = source.get("refusal") if type(source.get("refusal")) is str else None
        content = source.get("content")
        message: Json = {"role": "assistant", "content": text if text or type(content) is str else None}
        message["refusal"] = refusal or None
        if reasoning:
            message["reasoning_content"] = reasoning
        calls: list[Call] = []
        shown = []
        for told in tidy.calls_in(source):
            name, arguments = tidy.function(told)
            call = Call(None, told["id"] if type(told.get("id")) is str else "", name)
            call.arguments = arguments
            if not name and not is_whole(call):
                continue
            calls.append(call)
            call.id = own_id(calls, len(calls) - 1, self._minted)
            call.told = True
            if not arguments.strip() and reason != "length":
                arguments = "{}"
            kept = {key: value for key, value in told.items() if key not in MEMBERS and value is not None}
            function = {"name": name, "arguments": arguments}
            shown.append({"id": call.id, "type": "function", "function": function, **kept})
        if shown:
            message["tool_calls"] = shown
        message.update(tidy.extras(source))
        if "audio" in message and not tidy.is_audio(message["audio"]):
            message["provider_audio"] = message.pop("audio")
        if self._to.quirks.citations and "annotations" not in message:
            noted = citations_of(text, body)
            if noted:
                message["annotations"] = noted
        return message
