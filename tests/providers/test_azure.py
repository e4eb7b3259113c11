from __future__ import annotations

import orjson
import pytest
from openai.types.chat import ChatCompletionChunk

from policies.verdict import Kind
from proxy.providers.azure import Azure
from proxy.providers.base import Endpoint, Minted
from proxy.providers.catalog import CATALOG
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import COMMENT, DONE, Usage
from proxy.wire.usage import Parts

HOST = "https://res.openai.azure.com"
TO = Endpoint("azure", HOST, "gpt-x", verbatim=False, quirks=CATALOG["azure"].quirks)
ASK = ChatRequest.parse(b'{"model":"chat","messages":[{"role":"developer","content":"x"}],"service_tier":"priority"}')
VERSION = "2025-01-01-preview"


@pytest.mark.parametrize(
    ("base", "version", "deployment", "path"),
    [
        ("", "", "", "/openai/v1/chat/completions"),
        ("", "preview", "", "/openai/v1/chat/completions?api-version=preview"),
        ("", VERSION, "", f"/openai/deployments/gpt-x/chat/completions?api-version={VERSION}"),
        ("", VERSION, "my gpt", f"/openai/deployments/my%20gpt/chat/completions?api-version={VERSION}"),
        ("/openai", VERSION, "", f"/deployments/gpt-x/chat/completions?api-version={VERSION}"),
        ("/openai", "", "", "/v1/chat/completions"),
        ("/openai/v1", "", "d", "/chat/completions"),
        ("/openai/v1", VERSION, "", f"/chat/completions?api-version={VERSION}"),
        ("/openai/deployments/a", "", "", "/chat/completions?api-version=2024-10-21"),
        ("/openai/deployments/a", VERSION, "", f"/chat/completions?api-version={VERSION}"),
        ("/models", "", "", "/chat/completions?api-version=2024-05-01-preview"),
    ],
)
def test_addresses(base: str, version: str, deployment: str, path: str) -> None:
    to = TO._replace(base_url=HOST + base, api_version=version, deployment=deployment)
    assert Azure().path(to, False) == path


def test_a_key_has_a_header_of_its_own_and_a_token_is_a_bearer() -> None:
    headers = dict(Azure().headers(TO, "k1", False))
    assert headers[b"api-key"] == b"k1"
    assert b"authorization" not in headers
    headers = dict(Azure().headers(TO, "eyJ0.a.b", False))
    assert headers[b"authorization"] == b"Bearer eyJ0.a.b"
    assert b"api-key" not in headers
    assert b"api-key" not in dict(Azure().headers(TO, None, False))


def test_the_body_names_the_deployment() -> None:
    assert Azure().build(ASK, TO).body == ASK.raw.replace(b'"chat"', b'"gpt-x"')
    assert orjson.loads(Azure().build(ASK, TO._replace(deployment="d")).body)["model"] == "d"


def test_a_stream() -> None:
    safe = {"hate": {"filtered": False, "severity": "safe"}}
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "gpt-x-2025", "service_tier": "scale"}
    bodies = [
        {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": [safe]},
        {**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]},
        {**head, "choices": [{"index": 0, "delta": {"content": "Hi"}, "content_filter_results": safe}]},
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {**head, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1, "latency_checkpoint": {"a": 1}}},
    ]
    raw = b"".join(b"data: %b\n\n" % orjson.dumps(body) for body in bodies) + b"data: [DONE]\n\n"
    ask = ChatRequest.parse(b'{"model":"chat","messages":[{"role":"user","content":"x"}],"stream":true}')
    outcomes = []
    for step in (len(raw), 1, 7):
        decoder = Azure().decoder(ask, TO, Minted("chatcmpl-1", 1))
        chunks = [chunk for at in range(0, len(raw), step) for chunk in decoder.feed(raw[at : at + step])]
        outcomes.append([chunk.raw for chunk in chunks])
        assert (decoder.model, decoder.finish_reason, decoder.usage) == (
            "gpt-x-2025",
            "stop",
            Usage(3, 0, 0, 1, 0, Parts(tier="scale")),
        )
    assert outcomes[0] == outcomes[1] == outcomes[2]
    told = [orjson.loads(chunk.raw[6:]) for chunk in chunks if chunk.kind not in (COMMENT, DONE)]
    for body in told:
        ChatCompletionChunk.model_validate_json(orjson.dumps(body), strict=True)
    assert {(body["id"], body["model"]) for body in told} == {("c1", "gpt-x-2025")}
    assert told[0]["prompt_filter_results"] == [safe]
    assert told[1]["choices"][0]["content_filter_results"] == safe
    assert told[-1]["usage"]["latency_checkpoint"] == {"a": 1}


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}}, Kind.CONTENT_FILTER),
        (400, {"code": "context_length_exceeded"}, Kind.CONTEXT_LENGTH),
        (401, {"code": "401"}, Kind.AUTH),
        (404, {"code": "DeploymentNotFound"}, Kind.UNKNOWN_MODEL),
        (429, {"code": "429"}, Kind.RATE_LIMIT),
        (429, {"code": "RateLimitReached"}, Kind.RATE_LIMIT),
        (429, {"code": "insufficient_quota"}, Kind.QUOTA),
        (500, {"code": "InternalServerError"}, Kind.SERVER_ERROR),
    ],
)
def test_errors(status: int, error: dict[str, object], kind: Kind) -> None:
    told = Azure().error(status, [(b"retry-after", b"7")], orjson.dumps({"error": {"message": "x", **error}}))
    assert (told.kind, told.retry_after) == (kind, 7.0)
