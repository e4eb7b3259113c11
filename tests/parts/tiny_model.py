"""A llama of about 120,000 random parameters, written as a GGUF file: a real model for llama.cpp, built in the test.

Format: GGUF version 3 as llama.cpp reads it: magic, version, tensor count, metadata count, metadata, tensor table,
then the tensors, each aligned to 32 bytes. Everything is little-endian, every tensor 32-bit float. The same seed always
gives the same file.

The tokenizer is byte-level BPE, so that any text can be asked. One embedding dimension is the same constant for every
token and no layer writes to it, so the output matrix can use it as a bias: bytes that are no whole character can never
be chosen, and an answer is always readable text, with some two-, three- and four-byte characters in it.
"""

from __future__ import annotations

import array
import random
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

WIDTH, LAYERS, HEADS, FEED_FORWARD, CONTEXT = 64, 2, 4, 128, 4096
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", '<tool_call>\n{"name": "')
END_OF_TURN, TOOL_CALL = 2, 3
LESS_THAN = len(SPECIAL) + ord("<")
"""Token ids for `logit_bias`. TOOL_CALL raised makes an answer that may call tools do so, again and again; with
LESS_THAN (the first letter of the closing mark) and END_OF_TURN raised as well it ends after one call.
"""
WORDS = ("the", "and", "ing", "ight", "weigh", "bridge", "ton", "load", "é", "ß", "日", "本", "🚚")
LIFT = 4.0
"""The constant dimension of every embedding; after the final norm it is about 2.5."""

Tensor = tuple[str, tuple[int, ...], list[float]]
"""Name, shape (fastest dimension first) and numbers."""

CHAT_TEMPLATE = """\
{%- if tools %}{{- '<|im_start|>system\\nTools:\\n<tools>\\n' }}
{%- for tool in tools %}{{- tool | tojson }}{{- '\\n' }}{%- endfor %}
{{- '</tools>\\nCall one as\\n<tool_call>\\n{"name": <name>, "arguments": <object>}\\n</tool_call><|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.content %}{{- message.content }}{%- endif %}
{%- if message.tool_calls %}
{%- for call in message.tool_calls %}
{{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson }}{{- '}\\n</tool_call>' }}
{%- endfor %}{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""

_U32, _I32, _F32, _STRING, _ARRAY = 4, 5, 6, 8, 9
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4
"""Token types of `tokenizer.ggml.token_type`. A control token is never shown; a user-defined one is ordinary text."""


def write(path: Path, *, seed: int = 7) -> Path:
    """Write the model to `path` (about half a megabyte) and return the path."""
    tokens, merges, speakable = vocabulary()
    tensors = weights(random.Random(seed), tokens, speakable)
    head = [_metadata(name, kind, value) for name, kind, value in _description(tokens, merges)]
    table, blobs, offset = [], [], 0
    for name, shape, numbers in tensors:
        blob = _floats(numbers)
        table.append(_string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset))
        blobs.append(blob + bytes(-len(blob) % 32))
        offset += len(blobs[-1])
    start = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(head)) + b"".join(head + table)
    path.write_bytes(start + bytes(-len(start) % 32) + b"".join(blobs))
    return path


def vocabulary() -> tuple[list[str], list[str], set[int]]:
    """Token texts in GPT-2's byte alphabet, the merges that make the longer ones, and which may be answered."""
    alphabet = _byte_alphabet()
    tokens = [*SPECIAL, *alphabet]
    merges: list[str] = []
    speakable = {END_OF_TURN, *(len(SPECIAL) + byte for byte in (10, *range(32, 127)))}
    for word in WORDS:
        parts = [alphabet[byte] for byte in word.encode()]
        text = parts[0]
        for part in parts[1:]:
            pair = f"{text} {part}"
            text += part
            if pair not in merges:
                merges.append(pair)
                tokens.append(text)
        speakable.add(tokens.index(text))
    return tokens, merges, speakable


def weights(
    rng: random.Random, tokens: Sequence[str], speakable: set[int]
) -> list[tuple[str, tuple[int, ...], list[float]]]:
    """Every tensor of the llama architecture."""

    def matrix(inputs: int, outputs: int, scale: float = 1.0, *, silent_first: bool = False) -> list[float]:
        spread = scale / inputs**0.5
        numbers = [rng.gauss(0.0, spread) for _ in range(inputs * outputs)]
        if silent_first:  # the lifted dimension must reach the output unchanged
            numbers[:inputs] = [0.0] * inputs
        return numbers

    vocabulary_size = len(tokens)
    embedding = [rng.gauss(0.0, 1.0) for _ in range(WIDTH * vocabulary_size)]
    output = [rng.gauss(0.0, 0.4) for _ in range(WIDTH * vocabulary_size)]
    for token in range(vocabulary_size):
        embedding[token * WIDTH] = LIFT
        output[token * WIDTH] = 0.0 if token in speakable else -20.0
        if token in speakable and token >= len(SPECIAL) + 256:
            output[token * WIDTH] = 0.6  # a whole word, or a character of several bytes, is a little likelier
    flat = [1.0] * WIDTH
    tensors: list[tuple[str, tuple[int, ...], list[float]]] = [
        ("token_embd.weight", (WIDTH, vocabulary_size), embedding)
    ]
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        tensors.append((block + "attn_norm.weight", (WIDTH,), flat))
        tensors.extend((f"{block}attn_{name}.weight", (WIDTH, WIDTH), matrix(WIDTH, WIDTH, 2.0)) for name in "qkv")
        tensors.append((block + "attn_output.weight", (WIDTH, WIDTH), matrix(WIDTH, WIDTH, 3.0, silent_first=True)))
        tensors.append((block + "ffn_norm.weight", (WIDTH,), flat))
        for name in ("gate", "up"):
            tensors.append((f"{block}ffn_{name}.weight", (WIDTH, FEED_FORWARD), matrix(WIDTH, FEED_FORWARD, 2.0)))
        down = matrix(FEED_FORWARD, WIDTH, 2.0, silent_first=True)
        tensors.append((block + "ffn_down.weight", (FEED_FORWARD, WIDTH), down))
    tensors.append(("output_norm.weight", (WIDTH,), flat))
    tensors.append(("output.weight", (WIDTH, vocabulary_size), output))
    return tensors


def _description(tokens: Sequence[str], merges: Sequence[str]) -> list[tuple[str, int, object]]:
    return [
        ("general.architecture", _STRING, "llama"),
        ("general.name", _STRING, "tiny random llama"),
        ("llama.context_length", _U32, CONTEXT),
        ("llama.embedding_length", _U32, WIDTH),
        ("llama.block_count", _U32, LAYERS),
        ("llama.feed_forward_length", _U32, FEED_FORWARD),
        ("llama.attention.head_count", _U32, HEADS),
        ("llama.attention.head_count_kv", _U32, HEADS),
        ("llama.attention.layer_norm_rms_epsilon", _F32, 1e-5),
        ("llama.rope.dimension_count", _U32, WIDTH // HEADS),
        ("llama.vocab_size", _U32, len(tokens)),
        ("tokenizer.ggml.model", _STRING, "gpt2"),
        ("tokenizer.ggml.pre", _STRING, "gpt-2"),
        ("tokenizer.ggml.tokens", _ARRAY, list(tokens)),
        ("tokenizer.ggml.token_type", _ARRAY, _types(tokens)),
        ("tokenizer.ggml.merges", _ARRAY, list(merges)),
        ("tokenizer.ggml.bos_token_id", _U32, 0),
        ("tokenizer.ggml.eos_token_id", _U32, END_OF_TURN),
        ("tokenizer.ggml.eot_token_id", _U32, END_OF_TURN),
        ("tokenizer.ggml.padding_token_id", _U32, 0),
        ("tokenizer.chat_template", _STRING, CHAT_TEMPLATE),
    ]


def _types(tokens: Sequence[str]) -> list[int]:
    types = [_CONTROL if text in SPECIAL else _NORMAL for text in tokens]
    types[TOOL_CALL] = _USER_DEFINED
    return types


def _metadata(name: str, kind: int, value: object) -> bytes:
    head = _string(name) + struct.pack("<I", kind)
    match value:
        case str():
            return head + _string(value)
        case float():
            return head + struct.pack("<f", value)
        case int():
            return head + struct.pack("<I", value)
        case [str(), *_]:
            return head + struct.pack("<IQ", _STRING, len(value)) + b"".join(_string(str(text)) for text in value)
        case [int(), *_]:
            return head + struct.pack(f"<IQ{len(value)}i", _I32, len(value), *value)
    raise TypeError(f"{name}: no GGUF form for {value!r}")


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _floats(numbers: list[float]) -> bytes:
    values = array.array("f", numbers)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def _byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in for each of the 256 bytes: itself where printable, else U+0100 and up, in order."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    alphabet, spare = [], 256
    for byte in range(256):
        alphabet.append(chr(byte if byte in printable else spare))
        spare += byte not in printable
    return alphabet


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
