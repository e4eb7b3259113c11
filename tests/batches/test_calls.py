"""What batch APIs are asked, call by call, with scripted answers: addresses, waiting, what was never answered."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import pytest

from proxy.errors import UpstreamError
from proxy.providers.azure import account_path
from proxy.providers.base import Endpoint
from proxy.providers.batch import AzureBatches, Call, Line, MistralBatches

LINES = [Line("i0", {"model": "m", "messages": []})]


def play(steps: Generator[Call, bytes, Any], *replies: object) -> tuple[list[Call], Any]:
    """The calls that were made, and what it ended in."""
    calls = [next(steps)]
    for reply in replies:
        try:
            calls.append(steps.send(reply if isinstance(reply, bytes) else json.dumps(reply).encode()))
        except StopIteration as end:
            return calls, end.value
    raise AssertionError(f"it asks for more: {calls[-1]}")


@pytest.mark.parametrize(
    ("base", "version", "path"),
    [
        ("https://r.openai.azure.com", "", "/openai/v1/files"),
        ("https://r.openai.azure.com/openai/v1", "", "/files"),
        ("https://r.openai.azure.com/openai/v1", "preview", "/files?api-version=preview"),
        ("https://r.openai.azure.com", "2024-10-21", "/openai/files?api-version=2024-10-21"),
        ("https://r.openai.azure.com/openai", "2024-10-21", "/files?api-version=2024-10-21"),
        ("https://r.openai.azure.com/openai/deployments/d", "2024-10-21", None),
        ("https://r.services.ai.azure.com/models", "", None),
    ],
)
def test_an_azure_account_has_one_place_for_its_files(base: str, version: str, path: str | None) -> None:
    assert account_path(Endpoint("azure", base, "m", api_version=version), "/files") == path


def test_azure_is_waited_for_until_it_has_read_the_file() -> None:
    to = Endpoint("azure", "https://r.openai.azure.com", "m")
    calls, id = play(
        AzureBatches().submit(to, LINES),
        {"id": "f", "status": "pending"}, {"id": "f", "status": "pending"}, {"id": "f", "status": "processed"},
        {"id": "b"},
    )  # fmt: skip
    assert id == "b"
    places = ["/openai/v1/files", "/openai/v1/files/f", "/openai/v1/files/f", "/openai/v1/batches"]
    assert [call.path for call in calls] == places
    assert [call.pause > 0 for call in calls] == [False, True, True, False]
    assert json.loads(calls[-1].body)["endpoint"] == "/chat/completions"


def test_a_file_that_azure_cannot_read_is_the_end_of_it() -> None:
    to = Endpoint("azure", "https://r.openai.azure.com", "m")
    with pytest.raises(UpstreamError, match="could not read"):
        play(AzureBatches().submit(to, LINES), {"id": "f", "status": "error"})
    with pytest.raises(UpstreamError, match="did not get ready"):
        play(AzureBatches().submit(to, LINES), *[{"id": "f", "status": "pending"}] * 100)


def test_a_mistral_job_that_ran_out_of_time_gives_what_it_has() -> None:
    to = Endpoint("mistral", "https://api.mistral.ai/v1", "m")
    job = {"id": "j", "status": "TIMEOUT_EXCEEDED", "output_file": "o", "completed_requests": 1}
    calls, standing = play(MistralBatches().poll(to, "j"), job)
    assert calls[0].path == "/batch/jobs/j"
    assert (standing.ended, standing.failed, standing.done, standing.refs) == (True, None, 1, ("o",))
    answered = json.dumps({"custom_id": "i0", "response": {"status_code": 200, "body": {"id": "x"}}, "error": None})
    calls, found = play(MistralBatches().fetch(to, standing), answered.encode())
    assert calls[0].path == "/files/o/content"
    assert [(one.id, one.status) for one in found] == [("i0", 200)]
