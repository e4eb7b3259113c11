"""Batch APIs, sans I/O: what to ask of a provider so that many requests are answered later, for less money.

Each step is a generator that yields the calls to make and is sent their bodies; who sends them is not its business. A
line has an id of ours (`i0`, `i1`, ...), since providers differ in what they allow there, and a body in the provider's
own words, as its dialect builds them. Answers come in any order.

Wire facts from the providers' references (Nov 2026): OpenAI and Azure batches, Anthropic message batches, Gemini
batchGenerateContent with inline requests, Mistral jobs.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, Protocol

import orjson

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers.azure import account_path
from proxy.providers.base import Endpoint

Json = dict[str, Any]

_BOUNDARY = "weighbridge-7f1c2a9e4b5d4c0f"


class Call(NamedTuple):
    """One HTTP request; `path` follows the base URL."""

    method: str
    path: str
    body: bytes = b""
    content_type: bytes = b"application/json"
    pause: float = 0.0
    """Seconds to wait before it is sent."""


class Line(NamedTuple):
    id: str
    body: Json


class Result(NamedTuple):
    id: str
    status: int
    """HTTP status that the request alone would have had."""
    body: Json
    """The provider's answer, or its error object."""


class Standing(NamedTuple):
    """How a batch stands."""

    ended: bool
    failed: str | None = None
    """Why the whole of it failed; single lines tell of themselves."""
    done: int = 0
    """Lines that are answered, where the provider says so before the end."""
    refs: tuple[str, ...] = ()
    """Where its results are."""
    inline: tuple[Json, ...] = ()
    """The results themselves, where they come with the standing."""


Submit = Generator[Call, bytes, str]
Poll = Generator[Call, bytes, Standing]
Fetch = Generator[Call, bytes, list[Result]]


class Batching(Protocol):
    """A provider's batch API."""

    def submit(self, to: Endpoint, lines: Sequence[Line]) -> Submit:
        """Ends in the provider's id of the batch."""
        ...

    def poll(self, to: Endpoint, id: str) -> Poll: ...

    def fetch(self, to: Endpoint, standing: Standing) -> Fetch:
        """The results of an ended batch; lines that are not among them were never answered."""
        ...

    def cancel(self, to: Endpoint, id: str) -> Call: ...


class OpenAIBatches:
    endpoint = "/v1/chat/completions"

    def at(self, to: Endpoint, path: str) -> str:
        return path

    def ready(self, to: Endpoint, file: Json) -> Generator[Call, bytes, str]:
        """The id of an uploaded file that a batch may be made of."""
        yield from ()  # a generator like Azure's, though there is nothing to wait for
        return _id(file)

    def submit(self, to: Endpoint, lines: Sequence[Line]) -> Submit:
        told = [{"custom_id": line.id, "method": "POST", "url": self.endpoint, "body": line.body} for line in lines]
        file = yield from self.ready(to, _object((yield _upload(self.at(to, "/files"), told))))
        asked = {"input_file_id": file, "endpoint": self.endpoint, "completion_window": "24h"}
        batch = _object((yield Call("POST", self.at(to, "/batches"), orjson.dumps(asked))))
        return _id(batch)

    def poll(self, to: Endpoint, id: str) -> Poll:
        batch = _object((yield Call("GET", self.at(to, f"/batches/{id}"))))
        status = batch.get("status")
        counts = batch.get("request_counts") or {}
        done = int(counts.get("completed") or 0) + int(counts.get("failed") or 0)
        refs = tuple(batch[name] for name in ("output_file_id", "error_file_id") if batch.get(name))
        if status == "failed":
            told: Json = batch.get("errors") or {}
            errors = told.get("data") or [{}]
            return Standing(True, str(errors[0].get("message") or "the provider refused the batch"), done)
        # What expired or was cancelled gives the answers that were ready.
        return Standing(status in ("completed", "expired", "cancelled"), None, done, refs)

    def fetch(self, to: Endpoint, standing: Standing) -> Fetch:
        found: list[Result] = []
        for ref in standing.refs:
            for line in _lines((yield Call("GET", self.at(to, f"/files/{ref}/content")))):
                response = line.get("response")
                if isinstance(response, dict):
                    found.append(Result(line["custom_id"], int(response["status_code"]), response["body"]))
                else:
                    found.append(Result(line["custom_id"], 500, {"error": line.get("error")}))
        return found

    def cancel(self, to: Endpoint, id: str) -> Call:
        return Call("POST", self.at(to, f"/batches/{id}/cancel"))


class AzureBatches(OpenAIBatches):
    """As OpenAI's, at the account's address; an uploaded file is looked through first, which takes a while."""

    endpoint = "/chat/completions"

    def at(self, to: Endpoint, path: str) -> str:
        found = account_path(to, path)
        if found is None:
            raise UpstreamError(Kind.UNSUPPORTED, "batch", "the base URL names a deployment; batches are the account's")
        return found

    def ready(self, to: Endpoint, file: Json) -> Generator[Call, bytes, str]:
        id = _id(file)
        for look in range(_LOOKS):
            if file.get("status") == "processed":
                return id
            if file.get("status") == "error":
                raise UpstreamError(Kind.BAD_REQUEST, "batch", "Azure could not read the uploaded file")
            file = _object((yield Call("GET", self.at(to, f"/files/{id}"), pause=0.2 * min(25.0, 2.0**look))))
        raise UpstreamError(Kind.MALFORMED, "batch", "Azure did not get ready with the uploaded file")


_LOOKS = 60
"""At a file that is not ready: about five minutes."""


class AnthropicBatches:
    def submit(self, to: Endpoint, lines: Sequence[Line]) -> Submit:
        told = {"requests": [{"custom_id": line.id, "params": line.body} for line in lines]}
        return _id(_object((yield Call("POST", _versioned(to, "/messages/batches"), orjson.dumps(told)))))

    def poll(self, to: Endpoint, id: str) -> Poll:
        batch = _object((yield Call("GET", _versioned(to, f"/messages/batches/{id}"))))
        counts = batch.get("request_counts") or {}
        done = sum(int(counts.get(name) or 0) for name in ("succeeded", "errored", "canceled", "expired"))
        return Standing(batch.get("processing_status") == "ended", None, done, (id,))

    def fetch(self, to: Endpoint, standing: Standing) -> Fetch:
        # Not `results_url`: upstream hosts come from the config alone.
        found = []
        for line in _lines((yield Call("GET", _versioned(to, f"/messages/batches/{standing.refs[0]}/results")))):
            result = line["result"]
            kind = result["type"]
            if kind == "succeeded":
                found.append(Result(line["custom_id"], 200, result["message"]))
            elif kind == "errored":
                error: Json = result.get("error") or {}
                nested = error.get("error")
                inner: Json = nested if isinstance(nested, dict) else error
                status = _ANTHROPIC_STATUS.get(str(inner.get("type")), 500)
                found.append(Result(line["custom_id"], status, {"type": "error", "error": inner}))
            # What expired or was cancelled was never answered.
        return found

    def cancel(self, to: Endpoint, id: str) -> Call:
        return Call("POST", _versioned(to, f"/messages/batches/{id}/cancel"))


_ANTHROPIC_STATUS = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "overloaded_error": 529,
}  # fmt: skip


class GeminiBatches:
    def submit(self, to: Endpoint, lines: Sequence[Line]) -> Submit:
        requests = [{"request": line.body, "metadata": {"key": line.id}} for line in lines]
        told = {"batch": {"displayName": "weighbridge", "inputConfig": {"requests": {"requests": requests}}}}
        path = _versioned(to, f"/models/{to.model}:batchGenerateContent", "/v1beta")
        return str(_object((yield Call("POST", path, orjson.dumps(told))))["name"])

    def poll(self, to: Endpoint, id: str) -> Poll:
        operation = _object((yield Call("GET", _versioned(to, f"/{id}", "/v1beta"))))
        about = operation.get("metadata") or {}
        state = str(about.get("state") or "").rpartition("STATE_")[2]
        stats = about.get("batchStats") or {}
        done = int(stats.get("successfulRequestCount") or 0) + int(stats.get("failedRequestCount") or 0)
        if state == "FAILED" or isinstance(operation.get("error"), dict):
            error: Json = operation.get("error") or {}
            message = error.get("message")
            return Standing(True, str(message or "the provider's batch failed"), done)
        inline = ((operation.get("response") or {}).get("inlinedResponses") or {}).get("inlinedResponses") or ()
        ended = bool(operation.get("done")) or state in ("SUCCEEDED", "CANCELLED", "EXPIRED")
        return Standing(ended, None, done, (), tuple(inline))

    def fetch(self, to: Endpoint, standing: Standing) -> Fetch:
        found = []
        for place, one in enumerate(standing.inline):
            key = str((one.get("metadata") or {}).get("key") or f"i{place}")
            if isinstance(one.get("response"), dict):
                found.append(Result(key, 200, one["response"]))
            else:
                error = one.get("error") or {}
                found.append(Result(key, _GRPC_STATUS.get(int(error.get("code") or 13), 500), {"error": error}))
        yield from ()  # a generator like the others, though it has nothing left to ask
        return found

    def cancel(self, to: Endpoint, id: str) -> Call:
        return Call("POST", _versioned(to, f"/{id}:cancel", "/v1beta"))


_GRPC_STATUS = {3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 13: 500, 14: 503, 16: 401, 400: 400, 429: 429, 503: 503}
"""google.rpc.Code, or an HTTP status where one stands in its place."""


class MistralBatches:
    def submit(self, to: Endpoint, lines: Sequence[Line]) -> Submit:
        told = [{"custom_id": line.id, "body": line.body} for line in lines]
        file = _object((yield _upload("/files", told)))
        asked = {"input_files": [file["id"]], "model": to.model, "endpoint": "/v1/chat/completions"}
        return _id(_object((yield Call("POST", "/batch/jobs", orjson.dumps(asked)))))

    def poll(self, to: Endpoint, id: str) -> Poll:
        job = _object((yield Call("GET", f"/batch/jobs/{id}")))
        status = job.get("status")
        refs = tuple(job[name] for name in ("output_file", "error_file") if job.get(name))
        done = int(job.get("completed_requests") or 0)
        if status == "FAILED" and not refs:
            errors = job.get("errors") or [{}]
            return Standing(True, str(errors[0].get("message") or "the provider's job failed"), done)
        ended = status in ("SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLED")
        return Standing(ended, None, done, refs)

    def fetch(self, to: Endpoint, standing: Standing) -> Fetch:
        openai = OpenAIBatches()
        return (yield from openai.fetch(to, standing))

    def cancel(self, to: Endpoint, id: str) -> Call:
        return Call("POST", f"/batch/jobs/{id}/cancel")


BATCHING: dict[str, Batching] = {
    "openai": OpenAIBatches(),
    "azure": AzureBatches(),
    "anthropic": AnthropicBatches(),
    "gemini": GeminiBatches(),
    "mistral": MistralBatches(),
}
"""By dialect. All others have no batch API that is known here."""

NATIVE = frozenset({"openai"})
"""Rows of the catalog of the OpenAI dialect that have its batch API: other compatible servers may lack it."""


def _versioned(to: Endpoint, path: str, version: str = "/v1") -> str:
    """The path with the API's version, unless the base URL has one."""
    return path if to.base_url.rpartition("/")[2].startswith("v1") else version + path


def _upload(path: str, lines: Sequence[Json]) -> Call:
    content = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    parts = (
        f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="file"; filename="batch.jsonl"\r\n'
        "content-type: application/jsonl\r\n\r\n"
    ).encode()
    kind = f"multipart/form-data; boundary={_BOUNDARY}".encode()
    return Call("POST", path, b"%b%b\r\n--%b--\r\n" % (parts, content, _BOUNDARY.encode()), kind)


def _object(body: bytes) -> Json:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise UpstreamError(Kind.MALFORMED, "batch", "no JSON object where one was expected")
    return found


def _id(body: Json) -> str:
    found = body.get("id")
    if not isinstance(found, str) or not found:
        raise UpstreamError(Kind.MALFORMED, "batch", "a batch without an id")
    return found


def _lines(body: bytes) -> list[Json]:
    return [_object(line) for line in body.splitlines() if line.strip()]
