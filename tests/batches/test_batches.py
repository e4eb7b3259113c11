"""OpenAI's batch calls, by its own SDK, against simulated providers of three dialects through the real proxy."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from tests import processes
from tests.processes import Running, Upstream, rows, upstream

DIALECTS = ("openai", "anthropic", "gemini", "cohere")
ELSEWHERE = ("azure", "mistral", "second")
"""Served by the upstream of the OpenAI dialect: at addresses of their own, and a second account (`like: openai`)."""
BATCHING = (*DIALECTS[:3], *ELSEWHERE)
TOOL = {
    "type": "function",
    "function": {
        "name": "weigh",
        "parameters": {"type": "object", "properties": {"kg": {"type": "integer"}}, "required": ["kg"]},
    },
}


@pytest.fixture(scope="module")
def providers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Upstream]]:
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(
                upstream(tmp_path_factory.mktemp(name), "--dialect", name, "--skill", "1", "--tokens", "4")
            )
            for name in DIALECTS
        }
        yield started | dict.fromkeys(ELSEWHERE, started["openai"])


def config(providers: dict[str, Upstream], **more: Any) -> dict[str, Any]:
    def base(name: str) -> str:
        address = providers[name].base_url
        return address if name in ("openai", "mistral", "second") else address.removesuffix("/v1")

    return {
        "batches": {"poll": "100ms"},
        "providers": {
            name: {"base_url": base(name), "api_key": "k"} | ({"like": "openai"} if name == "second" else {})
            for name in providers
        },
        "routes": {f"to-{name}": {"targets": [f"{name}/m"]} for name in providers},
        "prices": {f"{name}/m": {"input": 2.0, "output": 4.0, "tiers": {"batch": 0.5}} for name in providers},
        **more,
    }


@contextmanager
def served(providers: dict[str, Upstream], folder: Path, **more: Any) -> Iterator[Running]:
    for one in providers.values():
        one.reset()
    with processes.proxy(config(providers, **more), folder) as running:
        yield running


def client(running: Running, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{running.base_url}/v1", api_key=key, max_retries=0)


def line(id: str, model: str, question: str = "What is 20 + 22?", **more: Any) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 50, **more}
    return {"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def submit(sdk: openai.OpenAI, lines: list[dict[str, Any]], **more: Any) -> Any:
    content = b"".join(json.dumps(one).encode() + b"\n" for one in lines)
    file = sdk.files.create(file=("in.jsonl", content), purpose="batch")
    return sdk.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", **more)


def waited(what: Callable[[], Any], until: Callable[[Any], bool]) -> Any:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = what()
        if until(found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"never came: {found}")


def ended(sdk: openai.OpenAI, id: str) -> Any:
    return waited(
        lambda: sdk.batches.retrieve(id), lambda one: one.status in ("completed", "failed", "cancelled", "expired")
    )


def output(sdk: openai.OpenAI, file: str | None) -> dict[str, Any]:
    if file is None:
        return {}
    return {one["custom_id"]: one for one in map(json.loads, sdk.files.content(file).text.splitlines())}


@pytest.mark.parametrize("name", BATCHING)
def test_a_batch_is_answered_in_openais_form(name: str, providers: dict[str, Upstream], tmp_path: Path) -> None:
    with served(providers, tmp_path) as running:
        sdk = client(running)
        lines = [line(f"sum {n}", f"to-{name}", f"What is {n} + {n}?") for n in range(6)]
        choice = "auto" if name == "mistral" else "required"  # Mistral calls it `any`, which OpenAI's own does not know
        lines.append(line("a tool", f"to-{name}", tools=[TOOL], tool_choice=choice))
        batch = submit(sdk, lines, metadata={"for": "test"})
        assert batch.status in ("in_progress", "completed")
        done = ended(sdk, batch.id)
        assert done.status == "completed"
        assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (7, 7, 0)
        assert done.metadata == {"for": "test"}
        found = output(sdk, done.output_file_id)
        assert done.error_file_id is None
        assert set(found) == {one["custom_id"] for one in lines}
        for n in range(6):
            body = found[f"sum {n}"]["response"]["body"]
            answer = openai.types.chat.ChatCompletion.model_validate_json(json.dumps(body), strict=True)
            assert f"answer is {2 * n}." in (answer.choices[0].message.content or "")
        call = found["a tool"]["response"]["body"]["choices"][0]
        assert call["finish_reason"] == "tool_calls"
        assert json.loads(call["message"]["tool_calls"][0]["function"]["arguments"])["kg"] is not None
        assert providers[name].stats()["requests"] == 0  # nothing was asked at the ordinary price
        assert [one.id for one in sdk.batches.list()] == [batch.id]
    kept = rows(tmp_path, "SELECT * FROM v_exchanges")
    assert len(kept) == 7
    assert {(row["origin"], row["outcome"], row["parent_id"]) for row in kept} == {("batch", "ok", batch.id)}
    spent = sum(row["input_tokens"] * 2 + row["output_tokens"] * 4 for row in kept) / 2e6
    assert sum(row["cost_usd"] for row in kept) == pytest.approx(spent)


def test_one_batch_may_go_to_several_providers(providers: dict[str, Upstream], tmp_path: Path) -> None:
    with served(providers, tmp_path) as running:
        sdk = client(running)
        lines = [line(f"{name} {n}", f"to-{name}") for n in range(3) for name in BATCHING]
        done = ended(sdk, submit(sdk, lines).id)
        assert set(output(sdk, done.output_file_id)) == {one["custom_id"] for one in lines}


@pytest.mark.parametrize("name", BATCHING)
def test_lines_that_fail_are_told_apart(name: str, providers: dict[str, Upstream], tmp_path: Path) -> None:
    """Results come in reverse: the first fault meets the last line."""
    with served(providers, tmp_path) as running:
        providers[name].change(faults=["http_500#1", "cut_reset#2"])
        sdk = client(running)
        done = ended(sdk, submit(sdk, [line(f"l{n}", f"to-{name}") for n in range(5)]).id)
        assert (done.request_counts.completed, done.request_counts.failed) == (3, 2)
        assert set(output(sdk, done.output_file_id)) == {"l0", "l1", "l2"}
        bad = output(sdk, done.error_file_id)
        assert bad["l4"]["response"]["status_code"] >= 500
        assert bad["l4"]["response"]["body"]["error"]["code"] == "server_error"
        assert bad["l3"]["response"] is None
        assert bad["l3"]["error"]["code"] == "batch_expired"


def test_where_there_is_no_batch_api_lines_are_worked_off_if_wanted(
    providers: dict[str, Upstream], tmp_path: Path
) -> None:
    with served(providers, tmp_path) as running:
        sdk = client(running)
        lines = [line(f"l{n}", "to-cohere") for n in range(9)]
        with pytest.raises(openai.BadRequestError, match="has a batch API") as refused:
            submit(sdk, lines)
        assert refused.value.code == "no_batch_api"
        done = ended(sdk, submit(sdk, lines, metadata={"weighbridge_emulate": "true"}).id)
        assert done.request_counts.completed == 9
        assert set(output(sdk, done.output_file_id)) == {one["custom_id"] for one in lines}
        assert providers["cohere"].stats()["requests"] == 9


def test_a_restart_goes_on_and_submits_nothing_twice(providers: dict[str, Upstream], tmp_path: Path) -> None:
    before = {name: submissions(providers[name]) for name in DIALECTS[:3]}
    with served(providers, tmp_path) as running:
        sdk = client(running)
        batch = submit(sdk, [line(f"l{n}", f"to-{DIALECTS[n % 3]}") for n in range(6)])
        kept = tmp_path / "exchanges.db.batches" / f"{batch.id}.json"
        waited(
            lambda: json.loads(kept.read_text())["parts"],
            lambda parts: all(part["state"] in ("submitted", "ended") for part in parts),
        )
    with processes.proxy(config(providers), tmp_path) as running:
        sdk = client(running)
        done = ended(sdk, batch.id)
        assert done.request_counts.completed == 6
        assert len(output(sdk, done.output_file_id)) == 6
    assert {name: submissions(providers[name]) for name in before} == {name: n + 1 for name, n in before.items()}


def submissions(provider: Upstream) -> int:
    asked = provider.ask("/requests").json()["requests"]
    return sum(one["method"] == "POST" and one["path"].endswith(("/batches", ":batchGenerateContent")) for one in asked)


def test_a_batch_can_be_cancelled(providers: dict[str, Upstream], tmp_path: Path) -> None:
    with served(providers, tmp_path, batches={"poll": "1h"}) as running:
        sdk = client(running)
        batch = submit(sdk, [line(f"l{n}", "to-anthropic") for n in range(4)])
        kept = tmp_path / "exchanges.db.batches" / f"{batch.id}.json"
        waited(lambda: json.loads(kept.read_text())["parts"][0], lambda part: part["state"] == "submitted")
        assert sdk.batches.cancel(batch.id).status == "cancelling"
        done = ended(sdk, batch.id)
        assert done.status == "cancelled"
        assert set(output(sdk, done.output_file_id)) == {"l0", "l1"}  # what was ready
        assert output(sdk, done.error_file_id)["l3"]["error"]["code"] == "batch_expired"


def test_files_and_batches_belong_to_their_key(providers: dict[str, Upstream], tmp_path: Path) -> None:
    keys = [{"name": name, "key": f"sk-{name}-0123456789"} for name in ("one", "two")]
    with served(providers, tmp_path, keys=keys) as running:
        one, two = (client(running, f"sk-{name}-0123456789") for name in ("one", "two"))
        batch = submit(one, [line("l", "to-openai")])
        for ask in (
            lambda: two.batches.retrieve(batch.id),
            lambda: two.batches.cancel(batch.id),
            lambda: two.files.retrieve(batch.input_file_id),
            lambda: two.files.content(batch.input_file_id),
            lambda: two.files.delete(batch.input_file_id),
            lambda: submit_again(two, batch.input_file_id),
        ):
            with pytest.raises(openai.NotFoundError):
                ask()
        assert list(two.batches.list()) == []
        with pytest.raises(openai.AuthenticationError):
            client(running, "sk-nobody").files.list()
        ended(one, batch.id)
        assert one.files.delete(batch.input_file_id).deleted
    assert not list((tmp_path / "exchanges.db.batches").glob("*.part"))
    assert (tmp_path / "exchanges.db.batches").stat().st_mode & 0o077 == 0


def submit_again(sdk: openai.OpenAI, file: str) -> Any:
    return sdk.batches.create(input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no lines"),
        (b"nonsense\n", "Line 1 is not JSON"),
        (b'{"custom_id": "a"}\n', "Line 1 should be `POST`"),
        (
            json.dumps(line("a", "to-openai")).encode() + b"\n" + json.dumps(line("a", "to-openai")).encode(),
            "second time",
        ),
        (json.dumps(line("a", "nobody")).encode(), "does not exist"),
        (json.dumps(line("a", "to-openai", stream=True)).encode(), "asks for a stream"),
        (json.dumps(line("a", "to-openai", temperature="hot")).encode(), "`temperature` must be a number"),
    ],
)
def test_a_file_that_is_not_right_is_refused_whole(
    content: bytes, words: str, providers: dict[str, Upstream], one_proxy: Running
) -> None:
    sdk = client(one_proxy)
    file = sdk.files.create(file=("in.jsonl", content), purpose="batch")
    with pytest.raises(openai.APIStatusError, match=words) as refused:
        submit_again(sdk, file.id)
    assert refused.value.status_code in (400, 404)
    assert list(sdk.batches.list()) == []


@pytest.fixture(scope="module")
def one_proxy(providers: dict[str, Upstream], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with served(providers, tmp_path_factory.mktemp("proxy")) as running:
        yield running
