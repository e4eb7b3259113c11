"""Conversations in Anthropic's form: turns, tool results, pictures and files, thinking that comes back, caching."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from proxy.errors import Refusal
from proxy.providers.anthropic import Anthropic
from proxy.providers.base import Endpoint
from proxy.wire.chat import ChatRequest

TO = Endpoint("anthropic", "https://api.anthropic.com", "claude-sonnet-4-5")


def sent(messages: list[dict[str, Any]], name: str = "claude-sonnet-4-5", **more: Any) -> dict[str, Any]:
    ask = ChatRequest.parse(orjson.dumps({"model": "chat", "messages": messages, **more}))
    body: dict[str, Any] = orjson.loads(Anthropic().build(ask, TO._replace(model=name)).body)
    return body


def turns(*messages: dict[str, Any], name: str = "claude-sonnet-4-5") -> list[dict[str, Any]]:
    body = sent(list(messages), name)
    found: list[dict[str, Any]] = body["messages"]
    return found


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": parts[0] if len(parts) == 1 and type(parts[0]) is str else list(parts)}


def call(id: str, name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*several: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(several), **more}


def result(id: str, content: Any = "r", **more: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": content, **more}


def test_system_and_developer_stand_apart_in_order() -> None:
    system = [{"role": "system", "content": "a"}, {"role": "developer", "content": [text("b"), text(" ")]}]
    body = sent(
        [*system, user("x"), {"role": "assistant", "content": "y"}, {"role": "system", "content": "c"}, user("z")]
    )
    assert body["system"] == [text("a"), text("b"), text("c")]
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]


def test_newest_models_take_system_text_where_it_stands() -> None:
    late = [user("x"), {"role": "system", "content": "now"}]
    assert turns(*late, name="claude-opus-4-8")[1] == {"role": "system", "content": [text("now")]}
    assert sent(late)["system"] == [text("now")]
    # Between two of the user's turns it may not stand.
    assert sent([*late, user("y")], "claude-opus-4-8")["system"] == [text("now")]


def test_turns_of_one_role_become_one_and_blank_text_goes() -> None:
    found = turns(user("a"), user(text("  "), text("b")), {"role": "assistant", "content": ""}, user("c"))
    assert found == [{"role": "user", "content": [text("a"), text("b"), text("c")]}]


def test_the_first_turn_is_the_user_s() -> None:
    assert [turn["role"] for turn in turns({"role": "assistant", "content": "hi"}, user("x"))] == [
        "user", "assistant", "user",
    ]  # fmt: skip
    alone = sent([{"role": "system", "content": "only"}])
    assert alone["messages"] == [{"role": "user", "content": [text("only")]}]
    assert "system" not in alone
    with pytest.raises(Refusal) as caught:
        sent([user(" ")])
    assert caught.value.param == "messages"


def test_the_assistant_s_last_words_are_gone_on_with_where_that_is_allowed() -> None:
    last = {"role": "assistant", "content": "It weighs \n"}
    assert turns(user("x"), last)[-1]["content"] == [text("It weighs")]
    with pytest.raises(Refusal) as caught:
        turns(user("x"), last, name="claude-opus-4-8")
    assert caught.value.param == "messages"


def test_parallel_results_in_any_order_make_one_turn_and_stand_first() -> None:
    found = turns(
        user("x"),
        calls(call("c.1", "f", '{"a":1}'), call("c2", "g", "")),
        user("meanwhile"),
        result("c2", ""),
        result("c.1", [text("one"), text("two")], is_error=True),
        user("so?"),
    )
    assert found[1]["content"] == [
        {"type": "tool_use", "id": "c_1", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "c2", "name": "g", "input": {}},
    ]
    assert found[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "c2"},
        {"type": "tool_result", "tool_use_id": "c_1", "content": [text("one"), text("two")], "is_error": True},
        text("meanwhile"),
        text("so?"),
    ]


def test_ids_are_made_unique_and_results_follow_them() -> None:
    found = turns(
        user("x"), calls(call("1")), result("1"), calls(call("1"), call("1_2")), result("1_2"), result("1"),
        calls(call("")), result(""),
    )  # fmt: skip
    used = [block["id"] for turn in found for block in turn["content"] if block["type"] == "tool_use"]
    got = [block["tool_use_id"] for turn in found for block in turn["content"] if block["type"] == "tool_result"]
    assert used == ["1", "1_2", "1_2_2", "call"]
    assert got == ["1", "1_2_2", "1_2", "call"]


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ("", {}),
        ("  ", {}),
        ("null", {}),
        ('{"a": "größer"}', {"a": "größer"}),
        ("[1]", {"arguments": [1]}),
        ('{"a": ', {"arguments": '{"a": '}),
    ],
)
def test_arguments_become_an_object(arguments: str, given: dict[str, Any]) -> None:
    assert turns(user("x"), calls(call("1", "f", arguments)), result("1"))[1]["content"][0]["input"] == given


def test_the_tools_of_a_conversation_are_named_where_the_request_has_none() -> None:
    body = sent([user("x"), calls(call("1", "f"), call("2", "g")), result("1"), result("2")])
    assert [tool["name"] for tool in body["tools"]] == ["f", "g"]
    assert body["tool_choice"] == {"type": "none"}


def test_functions_of_old_conversations() -> None:
    old = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    found = turns(user("x"), old, {"role": "function", "name": "f", "content": "r"})
    assert found[1]["content"][0]["id"] == found[2]["content"][0]["tool_use_id"]


PNG = base64.b64encode(b"\x89PNG").decode()
PDF = base64.b64encode(b"%PDF-1.7").decode()


@pytest.mark.parametrize(
    ("part", "block"),
    [
        ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}},
         {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}),
        ({"type": "image_url", "image_url": {"url": "data:image/png,%89PNG"}},
         {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}),
        ({"type": "image_url", "image_url": f"data:image/jpg;base64,{PNG}"},
         {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": PNG}}),
        ({"type": "image_url", "image_url": {"url": "https://a.example/a.png"}},
         {"type": "image", "source": {"type": "url", "url": "https://a.example/a.png"}}),
        ({"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"}},
         {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
          "title": "a.pdf"}),
        ({"type": "file", "file": {"file_data": PDF}},
         {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}),
        ({"type": "file", "file": {"file_data": "https://a.example/a.pdf"}},
         {"type": "document", "source": {"type": "url", "url": "https://a.example/a.pdf"}}),
        ({"type": "file", "file": {"file_data": "data:text/plain;charset=utf-8;base64,Z3LDtsOfZXI="}},
         {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "größer"}}),
        ({"type": "file", "file": {"file_data": f"data:image/png;base64,{PNG}"}},
         {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}),
        ({"type": "file", "file": {"file_id": "file_011"}},
         {"type": "document", "source": {"type": "file", "file_id": "file_011"}}),
        ({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}},
         {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}}),
        ({"type": "text", "text": "t", "cache_control": {"type": "ephemeral"}},
         {"type": "text", "text": "t", "cache_control": {"type": "ephemeral"}}),
    ],
)  # fmt: skip
def test_parts(part: dict[str, Any], block: dict[str, Any]) -> None:
    assert turns(user(text("see"), part))[0]["content"] == [text("see"), block]
    if part["type"] != "file":
        assert turns(user("x"), calls(call("1")), result("1", [part]))[2]["content"][0]["content"] == [block]


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}}, "messages[0].content[0].type"),
        (
            {"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AA"}},
            "messages[0].content[0].image_url.url",
        ),
        ({"type": "image_url", "image_url": {"url": "data:image/png"}}, "messages[0].content[0].image_url.url"),
        ({"type": "image_url", "image_url": {}}, "messages[0].content[0].image_url.url"),
        ({"type": "file", "file": {"file_id": "file-openai"}}, "messages[0].content[0].file"),
        ({"type": "file", "file": {"file_data": "data:application/zip;base64,AA"}}, "messages[0].content[0].file"),
        ({"type": "file", "file": {"file_data": "data:text/plain;base64,//8="}}, "messages[0].content[0].file"),
        ({"type": "text", "text": 1}, "messages[0].content[0].text"),
        ("loose", "messages[0].content[0].type"),
    ],
)
def test_content_that_anthropic_cannot_take_is_refused(part: Any, param: str) -> None:
    with pytest.raises(Refusal) as caught:
        turns({"role": "user", "content": [part]})
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    "message",
    [{"role": "robot", "content": "x"}, {"role": "assistant", "audio": {"id": "a"}}, calls({"id": "1"})],
)
def test_messages_that_anthropic_cannot_take_are_refused(message: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as caught:
        turns(user("x"), message)
    assert str(caught.value.param).startswith("messages[1]")


SIGNED = {"type": "reasoning.text", "text": "Hm.", "signature": "s", "format": "anthropic-claude-v1", "index": 0}
HIDDEN = {"type": "reasoning.encrypted", "data": "d", "format": "anthropic-claude-v1", "index": 1}
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
REDACTED = {"type": "redacted_thinking", "data": "d"}


@pytest.mark.parametrize(
    ("details", "blocks"),
    [
        (None, []),
        ([SIGNED, HIDDEN], [THOUGHT, REDACTED]),
        ([{**SIGNED, "text": "H", "signature": None}, {**SIGNED, "text": "m."}], [THOUGHT]),
        ([{**SIGNED, "signature": None}, {"type": "reasoning.text", "signature": "s"}], [THOUGHT]),
        ([{**SIGNED, "format": "anthropic-claude-v1anthropic-claude-v1"}], [THOUGHT]),
        ([{**SIGNED, "text": ""}], [{**THOUGHT, "thinking": ""}]),
        ([{**SIGNED, "signature": None}], []),
        ([{**SIGNED, "format": "google-gemini-v1"}, {**HIDDEN, "format": "openai-responses-v1"}], []),
        ([{"type": "reasoning.summary", "summary": "x"}, "odd"], []),
    ],
)
def test_signed_thinking_comes_back_before_what_followed_it(details: Any, blocks: list[dict[str, Any]]) -> None:
    message = calls(call("1"), reasoning_details=details, reasoning_content="Hm.") | {"content": "So."}
    used = {"type": "tool_use", "id": "1", "name": "f", "input": {}}
    assert turns(user("x"), message, result("1"))[1]["content"] == [*blocks, text("So."), used]


def test_thinking_is_left_off_for_a_turn_whose_thinking_got_lost() -> None:
    lost = [user("x"), calls(call("1")), result("1")]
    assert "thinking" not in sent(lost, reasoning_effort="low")
    assert "thinking" in sent(
        [user("x"), calls(call("1"), reasoning_details=[SIGNED]), result("1")], reasoning_effort="low"
    )
    assert "thinking" in sent([*lost, {"role": "assistant", "content": "y"}, user("z")], reasoning_effort="low")
    assert "thinking" in sent(lost, "claude-opus-4-8", reasoning_effort="low")


def test_a_mark_for_the_cache_on_a_message_goes_to_its_last_block() -> None:
    mark = {"type": "ephemeral"}
    found = turns(
        {**user("x"), "cache_control": mark}, calls(call("1"), cache_control=mark), result("1", cache_control=mark)
    )
    assert [turn["content"][-1]["cache_control"] for turn in found] == [mark, mark, mark]
