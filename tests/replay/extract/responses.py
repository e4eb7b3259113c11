"""OpenAI's Responses, as OpenAI, Azure, xAI, OpenRouter and others write them."""

from __future__ import annotations

import json
from typing import Any

from tests.replay.answer import Answer, Call, Tokens
from tests.replay.frames import Broken, json_body, json_events

_INCOMPLETE = {"max_output_tokens": "length", "content_filter": "content_filter"}


def read_body(raw: bytes) -> Answer:
    body = json_body(raw)
    if not isinstance(body, dict) or not isinstance(body.get("output"), list):
        raise Broken("no response")
    if body.get("error"):
        raise Broken("an error inside the answer")
    return _whole(body)


def read_stream(raw: bytes) -> Answer:
    """Put together from the pieces; the response at the end must say the same."""
    texts: dict[tuple[int, int], str] = {}
    thoughts: dict[tuple[int, int], str] = {}
    arguments: dict[int, str] = {}
    end: Answer | None = None
    for _, event in json_events(raw):
        kind = event.get("type")
        if kind in ("error", "response.failed") or event.get("error"):
            raise Broken("an error event")
        place = (event.get("output_index", 0), event.get("content_index", event.get("summary_index", 0)))
        if kind == "response.output_text.delta":
            texts[place] = texts.get(place, "") + event["delta"]
        elif kind == "response.reasoning_summary_text.delta":
            thoughts[place] = thoughts.get(place, "") + event["delta"]
        elif kind == "response.function_call_arguments.delta":
            arguments[place[0]] = arguments.get(place[0], "") + event["delta"]
        elif kind in ("response.completed", "response.incomplete"):
            end = _whole(event["response"])
    if end is None:
        raise Broken("a stream without its last event")
    choice = end.choices[0]
    if "".join(texts[place] for place in sorted(texts)) != choice.text:
        raise Broken("the pieces of the text are not the text")
    if thoughts and "".join(thoughts[place] for place in sorted(thoughts)) != choice.reasoning:
        raise Broken("the pieces of the reasoning are not the reasoning")
    told = [json.loads(arguments[place]) for place in sorted(arguments) if arguments[place].strip()]
    if told and told != [call.parsed for call in choice.calls if call.parsed or len(told) == len(choice.calls)]:
        raise Broken("the pieces of the arguments are not the arguments")
    return end


def _whole(body: dict[str, Any]) -> Answer:
    answer = Answer(model=body.get("model"), usage=_tokens(body.get("usage")))
    choice = answer.choice(0)
    for item in body["output"]:
        kind = item.get("type")
        if kind == "message":
            for part in item.get("content") or []:
                choice.text += part.get("text") or "" if part["type"] == "output_text" else ""
                choice.refusal += part.get("refusal") or "" if part["type"] == "refusal" else ""
        elif kind == "reasoning":
            choice.reasoning += "".join(one.get("text") or "" for one in item.get("summary") or [])
        elif kind == "function_call":
            choice.calls.append(Call(item["name"], item["arguments"], item["call_id"]))
        elif kind == "custom_tool_call":
            choice.calls.append(Call(item["name"], json.dumps(item["input"]), item["call_id"]))
    if body.get("status") == "incomplete":
        choice.finish = _INCOMPLETE.get((body.get("incomplete_details") or {}).get("reason"), "length")
    elif body.get("status") in ("completed", None):
        choice.finish = "tool_calls" if choice.calls else "stop"
    return answer


def _tokens(usage: Any) -> Tokens | None:
    if not isinstance(usage, dict):
        return None
    details = usage.get("input_tokens_details") or {}
    more = usage.get("output_tokens_details") or {}
    given, said = usage.get("input_tokens") or 0, usage.get("output_tokens") or 0
    reasoning = more.get("reasoning_tokens") or 0
    if reasoning and usage.get("total_tokens") == given + said + reasoning:
        said += reasoning
    read, write = details.get("cached_tokens") or 0, details.get("cache_write_tokens") or 0
    return Tokens(given, said, read, write, reasoning).capped()
