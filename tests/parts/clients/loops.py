"""`python loops.py CLIENT BASE_URL MODEL...`: an agent's loop of four streamed turns with a foreign client.

Two questions, each answered by calls, their results, and words.

Runs in an environment of its own (see .ci/parts) and uses nothing but the client's own public ways of putting a stream
together and sending it back. Prints one JSON object: model -> what the client saw in its turns.
"""

from __future__ import annotations

import json
import sys
from typing import Any

NAMES = ("get_time", "get_weather")
PLACE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": name, "description": "Tells it.", "parameters": PLACE}} for name in NAMES
]
QUESTIONS = {0: "What are the time and the weather in Oslo?", 2: "And in Lima?"}
"""Turn -> what the user says before it."""
TURNS = 4


def langchain(base_url: str, model: str) -> list[Any]:
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_openai import ChatOpenAI

    chat: Any = ChatOpenAI(
        base_url=base_url, api_key="none", model=model, reasoning_effort="low", max_retries=0, stream_usage=True,
        max_completion_tokens=4000,
    )  # fmt: skip
    messages: list[Any] = []
    turns = []
    bound = chat.bind_tools(TOOLS)
    for turn in range(TURNS):
        if turn in QUESTIONS:
            messages.append(HumanMessage(QUESTIONS[turn]))
        answer = None
        for chunk in bound.stream(messages):
            answer = chunk if answer is None else answer + chunk
        names = [call["name"] for call in answer.tool_calls]
        turns.append(_turn(names, answer.text, answer.usage_metadata["total_tokens"]))
        messages.append(answer)
        messages += [ToolMessage("12", tool_call_id=call["id"]) for call in answer.tool_calls]
    return turns


def litellm(base_url: str, model: str) -> list[Any]:
    import litellm as client

    messages: list[Any] = []
    turns = []
    for turn in range(TURNS):
        if turn in QUESTIONS:
            messages.append({"role": "user", "content": QUESTIONS[turn]})
        stream = client.completion(
            model=f"openai/{model}", api_base=base_url, api_key="none", messages=messages, tools=TOOLS,
            reasoning_effort="low", stream=True, max_retries=0,
            stream_options={"include_usage": True}, allowed_openai_params=["reasoning_effort"], max_tokens=4000,
        )  # fmt: skip
        answer = client.stream_chunk_builder(list(stream), messages=messages)
        message = answer.choices[0].message
        calls = message.tool_calls or []
        turns.append(_turn([call.function.name for call in calls], message.content or "", answer.usage.total_tokens))
        messages.append(message.model_dump(exclude_none=True))
        messages += [{"role": "tool", "tool_call_id": call.id, "content": "12"} for call in calls]
    return turns


def openai(base_url: str, model: str) -> list[Any]:
    from openai import OpenAI

    client = OpenAI(base_url=base_url, api_key="none", max_retries=0)
    messages: list[Any] = []
    turns = []
    for turn in range(TURNS):
        if turn in QUESTIONS:
            messages.append({"role": "user", "content": QUESTIONS[turn]})
        asked: dict[str, Any] = {
            "model": model, "messages": messages, "tools": TOOLS, "reasoning_effort": "low",
            "max_completion_tokens": 4000,
        }  # fmt: skip
        with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
            answer = stream.get_final_completion()
        message = answer.choices[0].message
        calls: list[Any] = list(message.tool_calls or [])
        total = answer.usage.total_tokens if answer.usage else 0
        turns.append(_turn([call.function.name for call in calls], message.content or "", total))
        messages.append(message.model_dump(exclude_none=True))
        messages += [{"role": "tool", "tool_call_id": call.id, "content": "12"} for call in calls]
    return turns


def _turn(calls: list[str], text: str, tokens: int) -> dict[str, Any]:
    return {"calls": calls, "text": bool(text.strip()), "tokens": tokens > 0}


def main(client: str, base_url: str, *models: str) -> None:
    run = {"langchain": langchain, "litellm": litellm, "openai": openai}[client]
    told: dict[str, Any] = {}
    for model in models:
        try:
            told[model] = run(base_url, model)
        except Exception as error:
            told[model] = f"{type(error).__name__}: {error}"[:2000]
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
