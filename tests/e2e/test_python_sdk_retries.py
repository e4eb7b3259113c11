"""The official Python SDK when upstreams fail: what it sees, and whether its own retries act rightly on our answers.

Requests are counted at the simulated upstream and in the proxy's record: an SDK that retries where it should not, or
gives up where it should not, shows in the counts.
"""

from __future__ import annotations

import logging
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import openai
import pytest

from tests import processes
from tests.e2e.sdk import Async, Sync
from tests.processes import Running, Upstream


class Place(NamedTuple):
    proxy: Running
    primary: Upstream
    """Fails as told; routes `once` (one attempt), `patient` (the usual attempts) and `pair` (then `second`)."""
    second: Upstream
    """Also behind the route `gone`, whose first target refuses connections."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("python-sdk-retries")
    with (
        closing(socket.socket()) as closed,
        processes.upstream(folder / "primary", "--seed", "7") as primary,
        processes.upstream(folder / "second", "--seed", "8") as second,
    ):
        closed.bind(("127.0.0.1", 0))  # taken, but never listening
        base_urls = {
            "primary": primary.base_url,
            "second": second.base_url,
            "closed": f"http://127.0.0.1:{closed.getsockname()[1]}",
        }
        once = {"retries": {"per_target": 1, "per_request": 1}}
        config = {
            "providers": {
                name: {"dialect": "openai", "base_url": f"{base_url}/v1", "api_key": None}
                for name, base_url in base_urls.items()
            },
            "routes": {
                "once": {"targets": ["primary/m"], **once},
                "patient": {"targets": ["primary/m"]},
                "pair": {"targets": ["primary/m", "second/m"]},
                "gone": {"targets": ["closed/m", "second/m"]},
            },
        }
        with processes.proxy(config, folder) as proxy:
            yield Place(proxy, primary, second)


@pytest.fixture(autouse=True)
def _fresh(place: Place) -> None:
    place.primary.reset()
    place.second.reset()
    # What one test did to a target must not be held against it in the next: a config loaded anew gives another chance.
    loaded = _loaded(place)
    place.proxy.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + 30
    while _loaded(place) == loaded:
        assert time.monotonic() < end
        time.sleep(0.005)


def _loaded(place: Place) -> int:
    return place.proxy.log.read_text().count("config loaded anew")


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def sdk(request: pytest.FixtureRequest, place: Place) -> Iterator[Sync | Async]:
    made = request.param(f"{place.proxy.base_url}/v1", max_retries=2)
    yield made
    made.close()


def eventually(place: Place, name: str, wanted: int) -> None:
    """Wait until the primary has counted `wanted` of `name`: the end of a request is not seen at once."""
    end = time.monotonic() + 30
    while place.primary.stats()[name] != wanted:
        assert time.monotonic() < end, place.primary.stats()
        time.sleep(0.02)


@pytest.mark.parametrize(("sdk", "status"), [(Sync, "http_429"), (Async, "http_503")], indirect=["sdk"])
def test_the_sdk_waits_as_long_as_it_is_told(
    sdk: Sync | Async, place: Place, status: str, caplog: pytest.LogCaptureFixture
) -> None:
    place.primary.change(faults=[f"{status}=retry_after:1#1"])
    with caplog.at_level(logging.INFO, logger="openai"):
        response, answer = sdk.raw(model="once")
    assert answer.choices[0].finish_reason == "stop"
    assert response.retries_taken == 1
    waits = re.findall(r"Retrying request .*?in ([\d.]+) seconds", caplog.text)
    assert [float(wait) for wait in waits] == [1.0]
    assert place.primary.stats()["requests"] == 2


@pytest.mark.parametrize(
    ("sdk", "fault"),
    [(Sync, "http_500"), (Async, "http_502"), (Sync, "http_504"), (Async, "http_529"), (Sync, "http_408"),
     (Async, "html_200")],
    indirect=["sdk"],
)  # fmt: skip
def test_the_sdk_tries_again_after_a_failure_that_may_pass(sdk: Sync | Async, place: Place, fault: str) -> None:
    place.primary.change(faults=[f"{fault}#1"])
    response, answer = sdk.raw(model="once")
    assert answer.choices[0].finish_reason == "stop"
    assert response.retries_taken == 1
    assert place.primary.stats()["requests"] == 2


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ("http_400", openai.BadRequestError, None),
        ("context_length", openai.BadRequestError, "context_length_exceeded"),
        ("content_filter", openai.BadRequestError, "content_filter"),
        ("http_404", openai.NotFoundError, "model_not_found"),
        ("http_422", openai.UnprocessableEntityError, None),
        ("http_429_quota", openai.RateLimitError, "insufficient_quota"),
        ("http_402", openai.RateLimitError, "insufficient_quota"),
        ("http_401", openai.InternalServerError, "upstream_auth"),
        ("http_403", openai.InternalServerError, "upstream_auth"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_the_sdk_gives_up_at_once_where_trying_again_is_no_use(
    sdk: Sync | Async, place: Place, fault: str, kind: type[openai.APIStatusError], code: str | None, stream: bool
) -> None:
    place.primary.change(faults=[fault])
    with pytest.raises(kind) as caught:
        sdk.chunks(model="once") if stream else sdk.create(model="once")
    if code is not None:
        assert caught.value.code == code
    assert caught.value.request_id
    assert place.primary.stats()["requests"] == 1


def test_when_nothing_helps_the_sdk_raises_our_last_answer(sdk: Sync | Async, place: Place) -> None:
    place.primary.change(faults=["http_503"])
    with pytest.raises(openai.InternalServerError) as caught:
        sdk.create(model="once")
    assert caught.value.status_code == 503
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["attempts"] == [{"target": "primary/m", "error": "server_error", "status": 503}]
    assert place.primary.stats()["requests"] == 3


def test_a_retry_of_the_proxy_is_not_seen(sdk: Sync | Async, place: Place) -> None:
    place.primary.change(faults=["http_500#1"])
    response, answer = sdk.raw(model="patient")
    assert answer.choices[0].finish_reason == "stop"
    assert response.retries_taken == 0
    assert response.headers["x-weighbridge-attempts"] == "2"
    assert place.primary.stats()["requests"] == 2


@pytest.mark.parametrize(
    "fault",
    ["http_429=retry_after:30", "http_500", "http_401", "html_502", "garbage", "empty_200", "error_in_200",
     "role_then_error", "cut_mid_stream=after:0", "done_only"],
)  # fmt: skip
def test_a_failover_is_not_seen(sdk: Sync | Async, place: Place, fault: str) -> None:
    place.primary.change(faults=[fault])
    response, answer = sdk.raw(model="pair")
    assert answer.system_fingerprint
    assert answer.choices[0].finish_reason == "stop"
    assert response.retries_taken == 0
    assert response.headers["x-weighbridge-target"] == "second/m"
    chunks = sdk.chunks(model="pair")
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == answer.choices[0].message.content
    assert place.second.stats()["requests"] == 2


def test_a_target_that_refuses_connections_is_not_seen(sdk: Sync | Async, place: Place) -> None:
    response, answer = sdk.raw(model="gone")
    assert answer.choices[0].finish_reason == "stop"
    assert response.headers["x-weighbridge-target"] == "second/m"


@pytest.mark.parametrize("fault", ["cut_mid_stream", "cut_clean"])
def test_a_stream_that_was_cut_raises_and_is_not_repeated(sdk: Sync | Async, place: Place, fault: str) -> None:
    place.primary.change(faults=[fault])
    assert_broken(sdk, place)


@pytest.mark.parametrize(
    ("sdk", "fault"), [(Sync, "error_event"), (Async, "malformed_sse"), (Sync, "cut_reset")], indirect=["sdk"]
)
def test_a_fault_amid_a_long_stream_raises_and_is_not_repeated(sdk: Sync | Async, place: Place, fault: str) -> None:
    """It follows on more content than one read can bring: content that came together with it would not be sent on."""
    place.primary.change(faults=[f"{fault}=after:3000"], tokens="4000")
    assert_broken(sdk, place)


def assert_broken(sdk: Sync | Async, place: Place) -> None:
    with pytest.raises(openai.APIError) as caught:
        sdk.chunks(model="pair")
    assert not isinstance(caught.value, openai.APIStatusError | openai.APIConnectionError)
    assert "not the whole answer" in caught.value.message
    assert place.primary.stats()["requests"] == 1
    assert place.second.stats()["requests"] == 0


def test_a_timeout_of_the_sdk_ends_the_request_upstream(place: Place) -> None:
    place.primary.change(faults=["hang_before_headers"])
    for kind in (Sync, Async):
        sdk = kind(f"{place.proxy.base_url}/v1", timeout=0.3, max_retries=0)
        with pytest.raises(openai.APITimeoutError):
            sdk.create(model="pair")
        sdk.close()
    eventually(place, "cancelled", 2)
    assert place.second.stats()["requests"] == 0


def test_a_stream_left_early_ends_the_request_upstream(sdk: Sync | Async, place: Place) -> None:
    place.primary.change(itl="20ms", tokens="3000")
    assert sdk.first_chunk(model="pair").choices[0].delta.role == "assistant"
    eventually(place, "cancelled", 1)
    assert place.second.stats()["requests"] == 0


def test_the_record_agrees_with_what_the_upstream_counted(tmp_path: Path) -> None:
    with processes.upstream(tmp_path, "--fault", "http_503=retry_after:1#1") as up:
        config: dict[str, Any] = {
            "providers": {"up": {"dialect": "openai", "base_url": f"{up.base_url}/v1", "api_key": None}},
            "defaults": {"retries": {"per_target": 1, "per_request": 1}},
            "routes": {"healthy": {"targets": ["up/m"]}},
        }
        with processes.proxy(config, tmp_path) as proxy:
            sdk = Sync(f"{proxy.base_url}/v1", max_retries=2)
            response, answer = sdk.raw()
            assert response.retries_taken == 1
            sdk.close()
        assert up.stats()["requests"] == 2
    seen = processes.rows(tmp_path, "SELECT outcome, status, output_tokens FROM v_exchanges ORDER BY at, id")
    assert answer.usage
    assert seen == [
        {"outcome": "upstream_error", "status": 503, "output_tokens": None},
        {"outcome": "ok", "status": 200, "output_tokens": answer.usage.completion_tokens},
    ]
    tries = processes.rows(tmp_path, "SELECT error_kind, attempt_no FROM v_attempts ORDER BY at, id")
    assert tries == [{"error_kind": "server_error", "attempt_no": 1}, {"error_kind": None, "attempt_no": 1}]
