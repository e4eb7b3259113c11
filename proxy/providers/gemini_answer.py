"""What Gemini answers, said to the scribe: parts, finish reasons, citations, usage.

Wire facts from the reference of `GenerateContentResponse` (AI Studio and Vertex), from the types of google-genai and
from recorded traffic. A whole answer is one response object; a stream is several, each a delta of parts. Old models
give a finish reason with every object of a stream, so the last word counts, and what ends a choice is written when
the answer has ended.
"""

from __future__ import annotations

from typing import Any

import orjson

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers.frame import malformed
from proxy.providers.gemini_partial import PartialCall
from proxy.wire.chunk import Json, Usage
from proxy.wire.scribe import Scribe
from proxy.wire.usage import Parts, count, parted, tier_of

_LENGTH = {"MAX_TOKENS", 2}
_FILTER = {
    "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR", "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "IMAGE_OTHER", 3, 4, 6, 7, 8,
}  # fmt: skip
"""The numbers are those of the enumeration, which older Vertex SDKs let through."""
_FAULT = {
    "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE",
    "MALFORMED_RESPONSE", 9,
}  # fmt: skip
"""The model's own failure: without content this is no answer at all."""
_UNSET = {None, "", 0, "FINISH_REASON_UNSPECIFIED"}


def objects(value: object) -> list[Json]:
    """The objects of an array; none where it is something else."""
    return [one for one in value if type(one) is dict] if type(value) is list else []


class _Candidate:
    """What has been read of one candidate so far."""

    __slots__ = ("citations", "content", "grounding", "open_call", "reason", "signature", "text")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.content = False
        self.reason: Any = None
        self.signature: str | None = None
        self.grounding: list[Json] = []
        self.citations: list[Json] = []
        self.open_call: PartialCall | None = None


class Reading:
    """Reads response objects in order. `close` writes how it ended, and raises unless it ended well."""

    def __init__(self, scribe: Scribe, minted_id: str) -> None:
        self.scribe = scribe
        self._minted = minted_id.removeprefix("chatcmpl-")
        self.model: str | None = None
        self.usage: Usage | None = None
        self._counts: dict[str, int] = {}
        self._details: Json = {}
        self._candidates: dict[int, _Candidate] = {}
        self._blocked: Json | None = None
        self._ids: set[str] = set()

    def read(self, body: Json) -> None:
        """Raises `UpstreamError` (MALFORMED) for what has not the form of a response."""
        scribe = self.scribe
        if self.model is None:
            if type(body.get("modelVersion")) is str and body["modelVersion"]:
                self.model = scribe.model = body["modelVersion"]
            if not self._candidates and type(body.get("responseId")) is str and body["responseId"]:
                scribe.id = body["responseId"]
        told = body.get("usageMetadata")
        if type(told) is dict:
            # Every object of a stream tells all counts that it knows; the last word on each is the total.
            self._counts.update({key: number for key, number in told.items() if type(number) is int and number >= 0})
            self._details.update({key: value for key, value in told.items() if type(value) in (list, str)})
            self.usage = _usage(self._counts, self._details)
        candidates = body.get("candidates") or ()
        if type(candidates) not in (list, tuple):
            raise malformed("`candidates` is not an array")
        feedback = body.get("promptFeedback")
        if type(feedback) is dict and feedback.get("blockReason") not in (None, "", 0):
            self._blocked = feedback
        unnumbered = 0
        for candidate in candidates:
            if type(candidate) is not dict:
                raise malformed("a candidate is not an object")
            index = candidate.get("index")
            if type(index) is not int or index < 0:
                index, unnumbered = unnumbered, unnumbered + 1
            self._candidate(candidate, index)

    @property
    def whole(self) -> bool:
        """Every candidate that began has its finish reason, or the prompt was blocked."""
        if not self._candidates:
            return self._blocked is not None
        return all(one.reason not in _UNSET for one in self._candidates.values())

    def close(self, *, stream: bool) -> None:
        """Writes signatures, annotations and finish reasons. Raises `UpstreamError` unless the answer is whole."""
        if not self._candidates and self._blocked is not None:
            # Why is told beside the (empty) text: they are Google's words, not the model's.
            self.scribe.put("extra_content", {"google": {"prompt_feedback": self._blocked}})
            self.scribe.finish("content_filter")
            return
        if not self._candidates:
            raise malformed("an answer without candidates")
        if not self.whole:
            if stream:
                raise UpstreamError(Kind.TRUNCATED, "decoder", "the stream ended without a finish reason", status=200)
            raise malformed("a candidate without a finish reason")
        for one in self._candidates.values():
            if one.open_call is not None:
                raise malformed("a function call that does not end")
            if one.reason in _FAULT and not one.content:
                raise malformed(f"finish reason {one.reason} and no content")
        for index in sorted(self._candidates):
            one = self._candidates[index]
            if one.signature is not None:
                self.scribe.put("extra_content", signed(one.signature)["extra_content"], index)
            self.scribe.annotate(url_citations("".join(one.text), one.grounding, one.citations), index)
            self.scribe.finish(_finish(one.reason), index)

    def _candidate(self, candidate: Json, index: int) -> None:
        one = self._candidates.get(index)
        if one is None:
            one = self._candidates[index] = _Candidate()
        content = candidate.get("content")
        parts = content.get("parts") if type(content) is dict else None
        for part in parts if type(parts) is list else ():
            if type(part) is not dict:
                raise malformed("a part is not an object")
            self._part(part, one, index)
        logprobs = candidate.get("logprobsResult")
        if type(logprobs) is dict:
            self.scribe.logprobs(_logprobs(logprobs), index)
        if type(candidate.get("groundingMetadata")) is dict:
            one.grounding.append(candidate["groundingMetadata"])
        if type(candidate.get("citationMetadata")) is dict:
            one.citations.append(candidate["citationMetadata"])
        reason = candidate.get("finishReason")
        if type(reason) not in (str, int):
            reason = None if reason is None else "OTHER"
        if reason not in _UNSET:
            one.reason = reason

    def _part(self, part: Json, one: _Candidate, index: int) -> None:
        signature = part.get("thoughtSignature")
        signature = signature if type(signature) is str and signature else None
        scribe = self.scribe
        if type(part.get("functionCall")) is dict:
            one.content = True
            self._call(part["functionCall"], signature, one, index)
        elif type(part.get("inlineData")) is dict and part.get("thought") is not True:
            one.content = True
            scribe.append("images", [_image(part["inlineData"], signature)], index)
        elif type(part.get("text")) is str:
            if part.get("thought") is True:
                scribe.reasoning(part["text"], index)
            else:
                one.text.append(part["text"])
                one.content = one.content or bool(part["text"])
                scribe.text(part["text"], index)
            one.signature = signature or one.signature
        else:
            one.signature = signature or one.signature
            rest = {key: value for key, value in part.items() if key != "thoughtSignature"}
            if rest:
                # Sketches made while thinking, code that ran at Google, its results, server-side tools: neither the
                # answer nor calls for the client, but nothing to hide.
                one.content = True
                scribe.append("google_parts", [rest], index)

    def _call(self, call: Json, signature: str | None, one: _Candidate, index: int) -> None:
        if one.open_call is not None or call.get("willContinue") is True or type(call.get("partialArgs")) is list:
            if one.open_call is None:
                one.open_call = PartialCall()
            if not one.open_call.add(call, signature):
                return
            call, signature, one.open_call = one.open_call.whole(), one.open_call.signature, None
        name = call.get("name")
        if type(name) is not str or not name:
            raise malformed("a function call without a name")
        args = call.get("args")
        if args is not None and type(args) is not dict:
            raise malformed("the arguments of a function call are not an object")
        extra = signed(signature) if signature is not None else None
        self.scribe.call(self._id(call.get("id")), name, orjson.dumps(args or {}).decode(), index, extra)

    def _id(self, given: object) -> str:
        """The call's own id, where it has one that no call before it had; else a name made of the answer's."""
        if type(given) is str and given and given not in self._ids:
            made = given
        else:
            made = f"call_{self._minted}_{len(self._ids)}"
        self._ids.add(made)
        return made


def signed(signature: str) -> Json:
    """Where Google's own OpenAI-compatible API carries a thought signature."""
    return {"extra_content": {"google": {"thought_signature": signature}}}


def _image(inline: Json, signature: str | None) -> Json:
    """As an entry of `images`, the form in which other gateways hand out pictures: a data URL."""
    kind = inline.get("mimeType") or "application/octet-stream"
    url = f"data:{kind};base64,{inline.get('data') or ''}"
    return {"type": "image_url", "image_url": {"url": url}, **(signed(signature) if signature is not None else {})}


def _finish(reason: Any) -> str:
    return "length" if reason in _LENGTH else "content_filter" if reason in _FILTER else "stop"


def _usage(counts: dict[str, int], details: Json) -> Usage | None:
    """The prompt holds what was cached but not what tools brought in; the candidates' count lacks the thoughts."""
    if not any(key.endswith("TokenCount") for key in counts):
        return None
    prompt = counts.get("promptTokenCount", 0) + counts.get("toolUsePromptTokenCount", 0)
    read = min(counts.get("cachedContentTokenCount", 0), prompt)
    written, thought = counts.get("candidatesTokenCount", 0), counts.get("thoughtsTokenCount", 0)
    return parted(Usage(prompt - read, read, 0, written, thought), _parts(details))


def _parts(details: Json) -> Parts:
    """Sound and pictures, of which the prompt's counts hold what was cached; and the tier that served it.

    What the cache holds of them is told apart by the same modalities.
    """
    cached = _of_modality(details, "cacheTokensDetails", "AUDIO")
    heard = _of_modality(details, "promptTokensDetails", "AUDIO")
    seen = _of_modality(details, "promptTokensDetails", "IMAGE")
    return Parts(
        audio_input=max(0, heard - cached),
        audio_cache_read=cached,
        audio_output=_of_modality(details, "candidatesTokensDetails", "AUDIO"),
        image_input=max(0, seen - _of_modality(details, "cacheTokensDetails", "IMAGE")),
        image_output=_of_modality(details, "candidatesTokensDetails", "IMAGE"),
        tier=tier_of(details.get("serviceTier")) or _TRAFFIC.get(str(details.get("trafficType"))),
    )


_TRAFFIC = {
    "ON_DEMAND_PRIORITY": "priority",
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_OFFPEAK": "offpeak",
    "PROVISIONED_THROUGHPUT": "provisioned",
}
"""Vertex AI's words for a tier (`UsageMetadata.trafficType`)."""


def _of_modality(details: Json, name: str, modality: str) -> int:
    told = objects(details.get(name))
    return sum([count(one.get("tokenCount")) for one in told if one.get("modality") == modality])


def _logprobs(result: Json) -> list[Json]:
    tops = objects(result.get("topCandidates"))
    entries = []
    for at, entry in enumerate(objects(result.get("chosenCandidates"))):
        others = [_logprob(other) for other in objects(tops[at].get("candidates"))] if at < len(tops) else []
        entries.append({**_logprob(entry), "top_logprobs": others})
    return entries


def _logprob(entry: Json) -> Json:
    token = str(entry.get("token") or "")
    value = entry.get("logProbability")
    return {
        "token": token,
        "logprob": float(value) if isinstance(value, int | float) else 0.0,
        "bytes": [*token.encode()],
    }


def url_citations(text: str, grounding: list[Json], citations: list[Json]) -> list[Json]:
    """Grounding and citations as `url_citation`s; offsets, which Google counts in UTF-8 bytes, in characters."""
    raw = text.encode()
    found: dict[tuple[int, int, str], Json] = {}
    for told in grounding:
        chunks = told.get("groundingChunks")
        sources = [_source(chunk) for chunk in chunks] if type(chunks) is list else []
        cited: set[int] = set()
        for support in objects(told.get("groundingSupports")):
            start, end = _span(raw, text, support.get("segment"))
            numbers = support.get("groundingChunkIndices")
            for number in numbers if type(numbers) is list else ():
                if type(number) is int and 0 <= number < len(sources) and (source := sources[number]) is not None:
                    cited.add(number)
                    found.setdefault((start, end, source[0]), _citation(start, end, *source))
        for number, source in enumerate(sources):
            if number not in cited and source is not None:
                found.setdefault((0, 0, source[0]), _citation(0, 0, *source))
    for told in citations:
        for one in objects(told.get("citationSources") or told.get("citations")):
            if one.get("uri"):
                start, end = _span(raw, text, one)
                url, title = str(one["uri"]), str(one.get("title") or "")
                found.setdefault((start, end, url), _citation(start, end, url, title))
    return list(found.values())


def _source(chunk: object) -> tuple[str, str] | None:
    for kind in ("web", "retrievedContext", "maps"):
        source = chunk.get(kind) if type(chunk) is dict else None
        if type(source) is dict and source.get("uri"):
            return str(source["uri"]), str(source.get("title") or "")
    return None


def _span(raw: bytes, text: str, segment: object) -> tuple[int, int]:
    """Characters of the text, from a segment; where its bytes are not its own text, that text is looked for."""
    if type(segment) is not dict:
        return 0, 0
    start, end = segment.get("startIndex") or 0, segment.get("endIndex") or 0
    if type(start) is not int or type(end) is not int or not 0 <= start <= end:
        return 0, 0
    said = segment.get("text")
    if type(said) is str and said and raw[start:end] != said.encode() and (at := text.find(said)) >= 0:
        return at, at + len(said)
    return len(raw[:start].decode("utf-8", "ignore")), len(raw[:end].decode("utf-8", "ignore"))


def _citation(start: int, end: int, url: str, title: str) -> Json:
    cited = {"start_index": start, "end_index": end, "url": url, "title": title}
    return {"type": "url_citation", "url_citation": cited}
