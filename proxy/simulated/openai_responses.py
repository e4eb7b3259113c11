"""OpenAI's Responses as the simulated upstream answers them: what is asked, the answer whole, and its events.

Wire facts from OpenAI's API reference (responses, streaming events) and from recorded traffic: the order of events,
each with its number; reasoning as an item of its own where it was asked for, encrypted for the next turn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import orjson

from proxy.simulated.answer import Answer, Complaint, Tool, Wanted
from proxy.simulated.dialect import Rules
from proxy.simulated.openai_fields import RESPONSES, checked, invalid, of_type, one_of, wrong_type
from proxy.simulated.reply import Tag

Json = dict[str, Any]

_ITEMS = ("message", "reasoning", "function_call", "function_call_output")
_PARTS = ("input_text", "input_image", "input_file", "output_text", "refusal")
_THOUGHT = "The truck stands on the scale."
_STATUS = {"length": "incomplete", "stop": "completed", "tool_calls": "completed"}


def sealed(text: str) -> str:
    """Encrypted reasoning: it can be checked without having been kept."""
    return "gAAAA" + hashlib.sha256(b"simulated" + text.encode()).hexdigest()


def read_responses(body: object, rules: Rules) -> Wanted:
    """Raises Complaint."""
    ask = checked(body, RESPONSES, rules)
    given = ask.get("input", "")
    if type(given) not in (str, list):
        raise wrong_type("input", "one of a string or array of items", given)
    items: list[Any] = [{"role": "user", "content": given}] if type(given) is str else given
    called: set[object] = set()
    for at, item in enumerate(items):
        _check_item(item, f"input[{at}]", called)
    for gone in ("previous_response_id", "conversation"):
        if gone in ask:
            raise Complaint(404, f"{gone} {ask[gone]!r} not found.", param=gone, code="not_found")
    effort = ask.get("reasoning", {}).get("effort")
    return Wanted(
        key=orjson.dumps([items, ask.get("instructions")], option=orjson.OPT_SORT_KEYS),
        model=ask["model"],
        stream=ask.get("stream", False),
        prompt_tokens=3 + sum(4 + len(orjson.dumps(item)) // 4 for item in items),
        limit=ask.get("max_output_tokens"),
        calls=_calls(ask, items),
        schema=_schema(ask.get("text", {}).get("format")),
        usage=True,
        thinks=effort not in (None, "none"),
        form="responses",
    )


def _check_item(item: Any, where: str, called: set[object]) -> None:
    if type(item) is not dict:
        raise wrong_type(where, "an object", item)
    kind = item.get("type", "message")
    one_of(*_ITEMS)(f"{where}.type", kind)
    if kind == "message":
        one_of("user", "assistant", "system", "developer")(f"{where}.role", item.get("role"))
        content = item.get("content")
        if type(content) not in (str, list):
            raise wrong_type(f"{where}.content", "one of a string or array of parts", content)
        for at, part in enumerate(content if type(content) is list else ()):
            one_of(*_PARTS)(f"{where}.content[{at}].type", part.get("type"))
    elif kind == "reasoning":
        text = "".join(one["text"] for one in item.get("summary", ()))
        if item.get("encrypted_content") != sealed(text):
            raise invalid(f"{where}.encrypted_content", "The encrypted content could not be verified.")
    elif kind == "function_call":
        for name in ("call_id", "name", "arguments"):
            of_type(str)(f"{where}.{name}", item.get(name))
        called.add(item["call_id"])
    elif item.get("call_id") not in called:
        raise invalid(where, f"No tool call found for function call output with call_id {item.get('call_id')}.")


def _calls(ask: Json, items: list[Any]) -> tuple[Tool, ...]:
    tools = {}
    for at, tool in enumerate(ask.get("tools", ())):
        if type(tool) is not dict or tool.get("type") != "function":
            raise invalid(f"tools[{at}].type", "The simulated upstream knows 'function'.")
        of_type(str)(f"tools[{at}].name", tool.get("name"))
        tools[tool["name"]] = Tool(tool["name"], tool.get("parameters"))
    choice = ask.get("tool_choice", "auto")
    if type(choice) is dict:
        if choice.get("name") not in tools:
            raise invalid("tool_choice", f"Tool choice {choice.get('name')!r} not found in 'tools' parameter.")
        return (tools[choice["name"]],)
    one_of("none", "auto", "required")("tool_choice", choice)
    answered = bool(items) and items[-1].get("type") == "function_call_output"
    if choice == "none" or (choice == "auto" and answered):
        return ()
    return tuple(tools.values()) if ask.get("parallel_tool_calls", True) else tuple(tools.values())[:1]


def _schema(format: Json | None) -> Any:
    if format is None or format.get("type") == "text":
        return None
    one_of("json_schema", "json_object")("text.format.type", format.get("type"))
    return format.get("schema", {"type": "object", "properties": {}})


def whole(wanted: Wanted, answer: Answer) -> Json:
    return _response(wanted, answer, _items(wanted, answer), _status(answer))


def events(wanted: Wanted, answer: Answer) -> Iterator[tuple[Json, Tag]]:
    for number, (event, tag) in enumerate(_events(wanted, answer)):
        yield {**event, "sequence_number": number}, tag


def content_event(wanted: Wanted, answer: Answer, text: str) -> Json:
    return {
        "type": "response.output_text.delta", "item_id": f"msg_{answer.id}", "output_index": int(wanted.thinks),
        "content_index": 0, "delta": text, "logprobs": [], "sequence_number": 1_000,
    }  # fmt: skip


def _status(answer: Answer) -> str | None:
    finish = answer.choices[0].finish if answer.choices else None
    return _STATUS.get(finish or "")


def _items(wanted: Wanted, answer: Answer) -> list[Json]:
    made: list[Json] = []
    if wanted.thinks:
        told = [{"type": "summary_text", "text": _THOUGHT}]
        made.append({"id": f"rs_{answer.id}", "type": "reasoning", "summary": told})
        made[-1]["encrypted_content"] = sealed(_THOUGHT)
    for choice in answer.choices[:1]:
        if not choice.calls:
            text = "".join(choice.pieces)
            part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
            done = "incomplete" if choice.finish == "length" else "completed"
            made.append({"id": f"msg_{answer.id}", "type": "message", "status": done, "content": [part],
                         "role": "assistant"})  # fmt: skip
        for at, call in enumerate(choice.calls):
            made.append({"id": f"fc_{answer.id}{at}", "type": "function_call", "status": "completed",
                         "arguments": "".join(call.pieces), "call_id": call.id, "name": call.name})  # fmt: skip
    return made


def _events(wanted: Wanted, answer: Answer) -> Iterator[tuple[Json, Tag]]:
    begun = _response(wanted, answer, [], "in_progress")
    yield {"type": "response.created", "response": begun}, Tag.ROLE
    yield {"type": "response.in_progress", "response": begun}, Tag.ROLE
    items = _items(wanted, answer)
    for index, item in enumerate(items):
        where = {"item_id": item["id"], "output_index": index}
        empty = {"summary": [], "content": [], "arguments": ""}
        added = {**item, **{name: value for name, value in empty.items() if name in item}}
        if "status" in item:
            added["status"] = "in_progress"
        yield {"type": "response.output_item.added", "output_index": index, "item": added}, Tag.ROLE
        if item["type"] == "reasoning":
            yield from _thinking(where, item["summary"][0])
        elif item["type"] == "message":
            yield from _message(where, item["content"][0], answer.choices[0].pieces)
        else:
            call = answer.choices[0].calls[index - len(items)]
            for piece in call.pieces:
                yield {"type": "response.function_call_arguments.delta", **where, "delta": piece}, Tag.CONTENT
            told = {"arguments": item["arguments"], "name": item["name"]}
            yield {"type": "response.function_call_arguments.done", **where, **told}, Tag.ROLE
        yield {"type": "response.output_item.done", "output_index": index, "item": item}, Tag.ROLE
    status = _status(answer)
    if status is not None:
        yield {"type": f"response.{status}", "response": _response(wanted, answer, items, status)}, Tag.FINISH


def _thinking(where: Json, part: Json) -> Iterator[tuple[Json, Tag]]:
    where = {**where, "summary_index": 0}
    name = "response.reasoning_summary"
    yield {"type": f"{name}_part.added", **where, "part": {**part, "text": ""}}, Tag.ROLE
    yield {"type": f"{name}_text.delta", **where, "delta": part["text"]}, Tag.CONTENT
    yield {"type": f"{name}_text.done", **where, "text": part["text"]}, Tag.ROLE
    yield {"type": f"{name}_part.done", **where, "part": part}, Tag.ROLE


def _message(where: Json, part: Json, pieces: tuple[str, ...]) -> Iterator[tuple[Json, Tag]]:
    where = {**where, "content_index": 0}
    yield {"type": "response.content_part.added", **where, "part": {**part, "text": ""}}, Tag.ROLE
    for piece in pieces:
        yield {"type": "response.output_text.delta", **where, "delta": piece, "logprobs": []}, Tag.CONTENT
    yield {"type": "response.output_text.done", **where, "text": part["text"], "logprobs": []}, Tag.ROLE
    yield {"type": "response.content_part.done", **where, "part": part}, Tag.ROLE


def _response(wanted: Wanted, answer: Answer, output: list[Json], status: str | None) -> Json:
    thoughts = 6 if wanted.thinks else 0
    given, said = answer.prompt_tokens, answer.completion_tokens + thoughts
    usage = {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": said,
        "output_tokens_details": {"reasoning_tokens": thoughts},
        "total_tokens": given + said,
    }
    ended = status in ("completed", "incomplete")
    return {
        "id": f"resp_{answer.id}",
        "object": "response",
        "created_at": answer.created,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "model": answer.model,
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage if ended and answer.with_usage else None,
        "metadata": {},
    }
