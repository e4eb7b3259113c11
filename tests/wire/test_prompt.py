"""What a prompt is estimated at, whatever stands in it."""

from __future__ import annotations

from typing import Any

import orjson

from proxy.wire.prompt import IMAGE, tokens

HELLO = [{"role": "user", "content": "Hello there"}]


def test_text_tools_and_images_count_in_every_form() -> None:
    chat = tokens({"messages": HELLO})
    assert chat == tokens({"input": "Hello there"}) == tokens({"prompt": ["Hello there"]}) == 2
    assert tokens({"messages": HELLO, "tools": [{"type": "function", "function": {"name": "f"}}]}) > chat + 5
    shown = [{"type": "text", "text": "Hello there"}, {"type": "image_url", "image_url": {"url": "x"}}]
    assert tokens({"messages": [{"role": "user", "content": shown}]}) == chat + IMAGE


def test_tools_nested_deeper_than_can_be_written_do_not_stop_the_estimate() -> None:
    deep: Any = orjson.loads('{"a":' * 600 + "1" + "}" * 600)
    assert tokens({"messages": HELLO, "tools": [deep]}) == 2
