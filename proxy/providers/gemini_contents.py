"""Messages as Gemini's `contents`: roles, parts, calls and their results.

Wire facts from Google's reference of `Content` and `Part` and from its page on thought signatures: the results of all
calls of a turn stand together in one turn right after it; a signature returns on the very part that it came on; a
model since Gemini 3 refuses (400) a call of the current turn without one, unless the documented stand-in is there.
"""

from __future__ import annotations

from typing import Any

import orjson

from proxy.errors import Refusal
from proxy.providers.data_url import data_url
from proxy.wire.chunk import Json

UNSIGNED = "skip_thought_signature_validator"
"""Google's stand-in for the signature of a call that another model made, or whose signature the client lost."""

_KINDS = {
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif",
    "heic": "image/heic", "heif": "image/heif", "bmp": "image/bmp", "pdf": "application/pdf", "txt": "text/plain",
    "csv": "text/csv", "html": "text/html", "md": "text/markdown", "json": "application/json", "mp4": "video/mp4",
    "mov": "video/mov", "webm": "video/webm", "mp3": "audio/mp3", "wav": "audio/wav", "flac": "audio/flac",
    "ogg": "audio/ogg", "aac": "audio/aac", "m4a": "audio/m4a",
}  # fmt: skip


def contents(
    messages: list[Json], provider: str, *, signatures: bool, ids: bool
) -> tuple[list[Json], list[Json], set[str]]:
    """System parts, turns, and the names of what was left out. `signatures`: the model asks for them.

    `ids`: calls and results carry their ids; without them they are matched by order and name.

    Raises `Refusal` (400) for what Gemini has no form for.
    """
    made = _Contents(provider, signatures, ids)
    for at, message in enumerate(messages):
        made.message(f"messages[{at}]", message)
    made.flush()
    if not made.turns and made.system:
        # A question must be there; instructions alone are one.
        made.turns, made.system = [{"role": "user", "parts": made.system}], []
    return made.system, made.turns, made.dropped


class _Contents:
    def __init__(self, provider: str, signatures: bool, ids: bool) -> None:
        self.provider = provider
        self.ids = ids
        self.signatures = signatures
        self.system: list[Json] = []
        self.turns: list[Json] = []
        self.dropped: set[str] = set()
        self._names: dict[str, str] = {}
        self._order: dict[str, int] = {}
        self._results: list[tuple[int, Json]] = []
        self._user: list[Json] = []

    def message(self, where: str, message: Json) -> None:
        role = message["role"]
        if "name" in message and role not in ("tool", "function"):
            self.dropped.add("name")
        if role in ("system", "developer"):
            self.system.extend(self._parts(where, message.get("content")))
        elif role == "user":
            self._user.extend(self._parts(where, message.get("content")))
        elif role == "assistant":
            self.flush()
            self._assistant(where, message)
        elif role in ("tool", "function"):
            self._result(where, message)
        else:
            raise Refusal(400, f"`{where}.role`: {role!r} is not a role.", param=f"{where}.role", code="invalid_value")

    def flush(self) -> None:
        """Closes what follows a model's turn: first all results, in the order of the calls, then what was said."""
        if self._results:
            self._turn("user", [part for _, part in sorted(self._results, key=lambda result: result[0])])
            self._results = []
        if self._user:
            self._turn("user", self._user)
            self._user = []

    def _turn(self, role: str, parts: list[Json]) -> None:
        if role == "model" and self.turns and self.turns[-1]["role"] == "model":
            self.turns[-1]["parts"].extend(parts)
        elif parts:
            self.turns.append({"role": role, "parts": parts})

    def _assistant(self, where: str, message: Json) -> None:
        parts = self._parts(where, message.get("content"))
        if type(message.get("refusal")) is str and message["refusal"]:
            parts.append({"text": message["refusal"]})
        signature = _signature(message)
        if signature is not None:
            if not parts:
                parts.append({"text": ""})
            parts[-1]["thoughtSignature"] = signature
        images = message.get("images")
        for at, image in enumerate(images if type(images) is list else ()):
            part = self._part(f"{where}.images[{at}]", image)
            if part is not None:
                parts.append(_with(part, _signature(image)))
        calls = [part for at, call in enumerate(message.get("tool_calls") or ())
                 for part in (self._call(f"{where}.tool_calls[{at}]", call),)]  # fmt: skip
        legacy = message.get("function_call")
        if type(legacy) is dict:
            calls.append(self._function(f"{where}.function_call", legacy, None))
        if calls and self.signatures and "thoughtSignature" not in calls[0]:
            # Of calls made together only the first is signed.
            calls[0]["thoughtSignature"] = UNSIGNED
        self._turn("model", parts + calls)

    def _call(self, where: str, call: Any) -> Json:
        function = call.get("function") if type(call) is dict else None
        if type(function) is not dict:
            raise self._refusal(where, "takes only calls of functions")
        id = call.get("id")
        part = self._function(where, function, id if type(id) is str and id else None)
        return _with(part, _signature(call))

    def _function(self, where: str, function: Json, id: str | None) -> Json:
        name = function.get("name")
        if type(name) is not str or not name:
            raise Refusal(400, f"`{where}` names no function.", param=where, code="invalid_value")
        called: Json = {"name": name, "args": _object(function.get("arguments"), "INVALID_JSON")}
        if id is not None:
            if self.ids:
                called["id"] = id
            self._names[id] = name
            self._order[id] = len(self._order)
        return {"functionCall": called}

    def _result(self, where: str, message: Json) -> None:
        id = message.get("tool_call_id")
        if message["role"] == "function":
            id, name = None, message.get("name")
        else:
            name = self._names.get(id) if type(id) is str else None
        if type(name) is not str or not name:
            told = f"`{where}.tool_call_id`: no call before it has the id {id!r}."
            raise Refusal(400, told, param=f"{where}.tool_call_id", code="invalid_value")
        answered: Json = {"name": name}
        if id is not None and self.ids:
            answered["id"] = id
        content = message.get("content")
        if type(content) is list:
            parts = self._parts(where, content)
            text = "".join(part["text"] for part in parts if "text" in part)
            if media := [part for part in parts if "text" not in part]:
                answered["parts"] = media
            answered["response"] = _object(text, "result")
        else:
            answered["response"] = _object(content, "result")
        self._results.append((self._order.get(id, len(self._order)) if id else 0, {"functionResponse": answered}))

    def _parts(self, where: str, content: Any) -> list[Json]:
        if type(content) is str:
            return [{"text": content}] if content else []
        made = [self._part(f"{where}.content[{at}]", part) for at, part in enumerate(content or ())]
        return [part for part in made if part is not None]

    def _part(self, where: str, part: Any) -> Json | None:
        kind = part.get("type") if type(part) is dict else None
        if kind is not None and "cache_control" in part:
            self.dropped.add("cache_control")
        if kind in ("text", "refusal"):
            text = part.get(kind)
            if type(text) is not str:
                raise Refusal(400, f"`{where}.{kind}` must be a string.", param=f"{where}.{kind}", code="invalid_type")
            return {"text": text} if text else None
        inner = part.get(kind) if type(kind) is str else None
        if kind in ("image_url", "video_url", "document_url"):
            if type(inner) is dict and inner.get("detail") not in (None, "auto"):
                self.dropped.add("detail")
            url = inner.get("url") if type(inner) is dict else inner
            if type(url) is not str or not url:
                raise Refusal(400, f"`{where}.{kind}` has no address.", param=f"{where}.{kind}", code="invalid_value")
            return _media(where, url)
        if kind == "input_audio" and type(inner) is dict:
            form = str(inner.get("format") or "wav")
            return {"inlineData": {"mimeType": _KINDS.get(form, f"audio/{form}"), "data": inner.get("data") or ""}}
        if kind == "file" and type(inner) is dict:
            return self._file(where, inner)
        raise self._refusal(f"{where}.type", f"takes no content of type {kind!r}")

    def _file(self, where: str, file: Json) -> Json:
        data, id = file.get("file_data"), file.get("file_id")
        if type(data) is str and data:
            if data.startswith(("data:", "http://", "https://", "gs://")):
                return _media(where, data)
            return {
                "inlineData": {"mimeType": _kind_of(str(file.get("filename") or "")) or "application/pdf", "data": data}
            }
        if type(id) is str and id.startswith(("http://", "https://", "gs://")):
            return _media(where, id)
        raise self._refusal(f"{where}.file.file_id", "knows no files of other providers; send `file_data`")

    def _refusal(self, param: str, what: str) -> Refusal:
        return Refusal(400, f"`{param}`: {self.provider} {what}.", param=param, code="unsupported_parameter")


def _with(part: Json, signature: str | None) -> Json:
    return part if signature is None else {**part, "thoughtSignature": signature}


def _signature(holder: Any) -> str | None:
    """`extra_content.google.thought_signature`, where Google's own OpenAI-compatible API keeps it."""
    found = holder
    for key in ("extra_content", "google", "thought_signature"):
        found = found.get(key) if type(found) is dict else None
    return found if type(found) is str and found else None


def _object(text: Any, name: str) -> Json:
    """JSON text as an object; what is no object goes under `name`, since Gemini takes nothing else."""
    if type(text) is dict:
        return text
    if type(text) is not str or not text.strip():
        return {} if name == "INVALID_JSON" or text is None else {name: text}
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {name: text}
    return found if type(found) is dict else {name: found if type(found) is list else text}


def _media(where: str, url: str) -> Json:
    if url.startswith("data:"):
        kind, data = data_url(url, where)
        return {"inlineData": {"mimeType": kind or "image/jpeg", "data": data}}
    if not url.startswith(("http://", "https://", "gs://")):
        raise Refusal(400, f"`{where}`: neither a data URL nor a link.", param=where, code="invalid_image_url")
    linked: Json = {"fileUri": url}
    if named := _kind_of(url.partition("?")[0]):
        linked["mimeType"] = named
    return {"fileData": linked}


def _kind_of(name: str) -> str | None:
    return _KINDS.get(name.rpartition("/")[2].rpartition(".")[2].lower())
