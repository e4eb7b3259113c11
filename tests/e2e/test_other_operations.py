"""Embeddings, completions and the operations that are passed on, with the official SDK, over real sockets."""

from __future__ import annotations

import struct
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Completion, CreateEmbeddingResponse

from proxy.endpoints import DOORS
from proxy.record import OPERATIONS
from proxy.simulated.embeddings import vectors, wanted_of
from tests import processes
from tests.e2e.everyone import World, everyone

EMBEDDERS = {
    "e-openai": "openai/text-embedding-3-small",
    "e-mistral": "mistral/mistral-embed",
    "e-gemini": "gemini/gemini-embedding-001",
    "e-vertex": "vertex/text-embedding-005",
    "e-vertex-2": "vertex/gemini-embedding-2",
    "e-cohere": "cohere/embed-v4.0",
    "e-titan": "bedrock/amazon.titan-embed-text-v2:0",
    "e-cohere-bedrock": "bedrock/cohere.embed-v4:0",
}
ALONE = ("e-titan", "e-vertex-2")
"""One text at a time."""
TOLD = [name for name in EMBEDDERS if name != "e-cohere-bedrock"]
"""The provider tells in the body how many tokens the input had."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    routes: dict[str, Any] = {name: {"targets": [target]} for name, target in EMBEDDERS.items()}
    routes["either"] = {"targets": ["anthropic/claude-sonnet-4-5", "openai/text-embedding-3-small"]}
    routes["e-two"] = {"targets": ["gemini/gemini-embedding-001", "openai/text-embedding-3-small"]}
    with everyone(tmp_path_factory.mktemp("others"), routes=routes) as made:
        yield made


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{world.url}/v1", api_key="unused", max_retries=0) as made:
        yield made


@pytest.mark.parametrize("model", EMBEDDERS)
@pytest.mark.parametrize("form", ["sdk", "float", "base64"])
@pytest.mark.parametrize("dimensions", [None, 8])
def test_embeddings_of_every_dialect(client: openai.OpenAI, model: str, form: str, dimensions: int | None) -> None:
    texts = ["the truck"] if model in ALONE else ["the truck", "é 日 🚚", "the truck"]
    asked: dict[str, Any] = {"model": model, "input": texts if len(texts) > 1 else texts[0]}
    if form != "sdk":
        asked["encoding_format"] = form
    if dimensions is not None:
        asked["dimensions"] = dimensions
    answer = client.embeddings.create(**asked)
    told = [entry.embedding for entry in answer.data]
    if form == "base64":
        raw = [b64decode(str(one)) for one in told]
        told = [list(struct.unpack(f"<{len(one) // 4}f", one)) for one in raw]
    else:
        CreateEmbeddingResponse.model_validate_json(answer.to_json(), strict=True)
    expected = vectors(wanted_of(texts, "any", dimensions))
    assert told == [pytest.approx(one, rel=1e-6) for one in expected]
    assert [entry.index for entry in answer.data] == list(range(len(texts)))
    assert (answer.usage.prompt_tokens > 0) is (model in TOLD)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens


def test_tokens_are_for_openai_and_lists_not_for_all(client: openai.OpenAI) -> None:
    assert client.embeddings.create(model="e-openai", input=[[1, 2, 3], [4]]).data[1].index == 1
    for model, given in (("e-gemini", [[1, 2]]), ("e-titan", ["a", "b"])):
        with pytest.raises(openai.BadRequestError) as refused:
            client.embeddings.create(model=model, input=given)  # type: ignore[arg-type]
        assert refused.value.param == "input"


def test_targets_that_cannot_are_passed_over(world: World, client: openai.OpenAI) -> None:
    answer = client.embeddings.with_raw_response.create(model="either", input="a")
    assert answer.headers["x-weighbridge-target"] == "openai/text-embedding-3-small"
    assert answer.headers["x-weighbridge-attempts"] == "1"
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="anthropic", input="a")
    assert refused.value.code == "unsupported_operation"


def test_embeddings_fail_over(world: World, client: openai.OpenAI) -> None:
    world.upstreams["gemini"].faults = ("http_503",)
    try:
        answer = client.embeddings.with_raw_response.create(model="e-two", input="a")
    finally:
        world.upstreams["gemini"].faults = ()
    assert answer.headers["x-weighbridge-target"] == "openai/text-embedding-3-small"
    assert answer.headers["x-weighbridge-attempts"] == "2"


@pytest.mark.parametrize("model", ["openai", "anthropic", "gemini", "bedrock", "cohere"])
def test_completions_natively_and_by_chat(client: openai.OpenAI, model: str) -> None:
    asked: dict[str, Any] = {"model": model, "prompt": "Once upon a time", "max_tokens": 50, "temperature": 0}
    whole = client.completions.create(**asked)
    Completion.model_validate_json(whole.to_json(), strict=True)
    stream = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    for chunk in stream:
        # The type of a completion knows no chunk without its finish reason, which OpenAI's own have.
        assert chunk.object == "text_completion"
    text = "".join(choice.text for chunk in stream for choice in chunk.choices)
    assert text == whole.choices[0].text
    assert text
    reasons = [choice.finish_reason for chunk in stream for choice in chunk.choices if choice.finish_reason]
    assert reasons == [whole.choices[0].finish_reason]
    assert whole.usage is not None
    assert stream[-1].usage is not None
    assert stream[-1].usage.total_tokens == whole.usage.total_tokens
    assert whole.usage.completion_tokens > 0
    if model != "openai":
        with pytest.raises(openai.BadRequestError) as refused:
            client.completions.create(model=model, prompt=["a", "b"])
        assert refused.value.param == "prompt"


def test_what_is_not_served_says_what_is(world: World) -> None:
    for method, path in (
        ("POST", "/v1/assistants"),
        ("GET", "/v1/responses/resp_1"),
        ("DELETE", "/v1/responses/resp_1"),
    ):
        answer = world.proxy.ask(path, method=method)
        assert answer.status == 404
        assert "/v1/embeddings" in answer.json()["error"]["message"]
    assert world.proxy.ask("/v1/embeddings").status == 405


def test_every_door_has_an_operation_that_records_know() -> None:
    assert {door.operation for door in DOORS.values()} == set(OPERATIONS)


def test_records_have_usage(tmp_path: Path) -> None:
    with everyone(tmp_path, routes={"e": {"targets": ["openai/text-embedding-3-small"]}}) as world:
        sent = {"model": "e", "input": "some text"}
        assert world.proxy.ask("/v1/embeddings", sent).status == 200
        assert world.proxy.ask("/v1/responses", {"model": "openai", "input": "some text"}).status == 200
        sent = {"model": "openai", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9}
        assert world.proxy.ask("/v1/messages", sent).status == 200
    found = processes.rows(
        tmp_path, "SELECT operation, outcome, input_tokens, output_tokens FROM v_exchanges ORDER BY at"
    )
    assert [row["outcome"] for row in found] == ["ok"] * 3
    assert [row["operation"] for row in found] == ["embeddings", "responses", "messages"]
    assert all(row["input_tokens"] > 0 for row in found)
    assert [row["output_tokens"] > 0 for row in found] == [False, True, True]
