"""The text of a prompt, whatever form the request has, and how many tokens that may be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import orjson

from policies.tokens import estimate
from proxy.wire.chunk import Json

IMAGE = 1000
"""Tokens that an image costs, roughly."""
IMAGES = ("image_url", "input_image", "image")


def messages(body: Json) -> Iterator[Json]:
    """What the model is told, one message after the other."""
    for name in ("system", "instructions"):
        if body.get(name):
            yield {"role": "system", "content": body[name]}
    told = body.get("messages") or body.get("input") or body.get("prompt") or ()
    for message in told if isinstance(told, list) else [told]:
        yield message if isinstance(message, dict) else {"role": "user", "content": message}


def parts(message: Json) -> Iterator[Json]:
    content = message.get("content")
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict):
            yield part


def tokens(body: Json) -> int:
    """An estimate: text by its classes of characters, tools as JSON, so many for an image."""
    texts, images = [], 0
    for message in messages(body):
        texts.append(message.get("content"))
        for part in parts(message):
            texts.append(part.get("text"))
            images += part.get("type") in IMAGES
    tools = body.get("tools")
    if tools:
        with suppress(TypeError):  # nested deeper than can be written: sending it is refused by whoever must write it
            texts.append(orjson.dumps(tools).decode())
    return round(estimate("\n".join([text for text in texts if isinstance(text, str)]))) + images * IMAGE
