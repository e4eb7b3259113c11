"""A real proxy before three simulated upstreams, over real sockets: every fault the simulator has, streamed or not,
before and after content. What the client saw, what was recorded and what the upstreams counted must agree.

All cases run at once, each on a route of its own; what each must come to is asserted afterwards, case by case.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import openai
import pytest

from policies.verdict import Kind
from proxy.simulated import FAULTS, Fault, Simulated
from tests import processes
from tests.e2e.raw import LIMIT_S, chat, get, post
from tests.processes import Running

AT_ONCE = 32
SHORT = {"ttft": "3s", "answer": "3s", "stall": "3s"}
"""Deadlines of the routes that meet silence. The others have minutes, which no busy machine uses up."""
LONG = {"ttft": "2m", "answer": "2m", "stall": "2m"}
NEVER = "=10m"


class Fails(NamedTuple):
    """A fault before content: its kind, and how a target that is alone with it ends."""

    fault: str
    kind: Kind
    status: int
    tries: int = 1
    """Requests to a target that is alone."""
    stream: bool = True
    whole: bool = True
    spreads: bool = True
    """Another target is asked."""


FAILS = [
    Fails("refuse", Kind.CONNECT, 502, 2),
    Fails("reset_before_headers", Kind.CONNECT, 502, 2),
    Fails("close_before_headers", Kind.CONNECT, 502, 2),
    Fails("hang_before_headers", Kind.TIMEOUT, 504),
    Fails("garbage", Kind.MALFORMED, 502),
    Fails("http_400", Kind.BAD_REQUEST, 400, spreads=False),
    Fails("http_422", Kind.BAD_REQUEST, 422, spreads=False),
    Fails("content_filter", Kind.CONTENT_FILTER, 400, spreads=False),
    Fails("context_length", Kind.CONTEXT_LENGTH, 400),
    Fails("http_413", Kind.CONTEXT_LENGTH, 400),
    Fails("http_401", Kind.AUTH, 502),
    Fails("http_403", Kind.AUTH, 502),
    Fails("http_402", Kind.QUOTA, 429),
    Fails("http_404", Kind.UNKNOWN_MODEL, 404),
    Fails("http_408", Kind.TIMEOUT, 504),
    Fails("http_429", Kind.RATE_LIMIT, 429, 2),
    Fails("http_429=retry_after:0.2", Kind.RATE_LIMIT, 429, 2),
    Fails("http_429=retry_after:60", Kind.RATE_LIMIT, 429),
    Fails("http_429_quota", Kind.QUOTA, 429),
    Fails("http_500", Kind.SERVER_ERROR, 500, 2),
    Fails("http_502", Kind.SERVER_ERROR, 502, 2),
    Fails("http_503", Kind.SERVER_ERROR, 503, 2),
    Fails("http_504", Kind.SERVER_ERROR, 504, 2),
    Fails("http_529", Kind.SERVER_ERROR, 503, 2),
    Fails("html_502", Kind.SERVER_ERROR, 502, 2),
    Fails("redirect_302", Kind.MALFORMED, 502),
    Fails("html_200", Kind.MALFORMED, 502),
    Fails("empty_200", Kind.MALFORMED, 502),
    Fails("error_in_200", Kind.MALFORMED, 502),
    Fails("sse_for_json", Kind.MALFORMED, 502, stream=False),
    Fails("json_for_sse", Kind.MALFORMED, 502, whole=False),
    Fails("empty_choices", Kind.MALFORMED, 502),
    Fails("done_only", Kind.MALFORMED, 502),
    Fails("role_then_error", Kind.MALFORMED, 502),
    Fails("slow_ttft" + NEVER, Kind.TIMEOUT, 504),
    Fails("cut_mid_stream=after:0", Kind.MALFORMED, 502),
    Fails("cut_reset=after:0", Kind.MALFORMED, 502),
    Fails("cut_clean=after:0", Kind.MALFORMED, 502),
    Fails("stall_mid_stream=after:0", Kind.TIMEOUT, 504),
    Fails("slow_body", Kind.TIMEOUT, 504, stream=False),
    Fails("truncated_json=after:0", Kind.MALFORMED, 502),
    Fails("wrong_content_length=after:0", Kind.MALFORMED, 502),
    Fails("wrong_content_length_short", Kind.MALFORMED, 502, stream=False),
    Fails("bad_chunk=after:0", Kind.MALFORMED, 502),
    Fails("malformed_sse=after:0", Kind.MALFORMED, 502),
    Fails("error_event=after:0", Kind.MALFORMED, 502),
    Fails("big_line=after:0", Kind.MALFORMED, 502),
    Fails("missing_finish", Kind.MALFORMED, 502, stream=False),
]
BREAKS = {
    "cut_mid_stream": Kind.TRUNCATED,
    "cut_reset": Kind.TRUNCATED,
    "cut_clean": Kind.TRUNCATED,
    "stall_mid_stream": Kind.STALL,
    "slow_body": Kind.STALL,
    "truncated_json": Kind.TRUNCATED,
    "wrong_content_length": Kind.TRUNCATED,
    "wrong_content_length_short": Kind.TRUNCATED,
    "bad_chunk": Kind.TRUNCATED,
    "malformed_sse": Kind.TRUNCATED,
    "error_event": Kind.TRUNCATED,
    "big_line": Kind.TRUNCATED,
    "missing_finish": Kind.TRUNCATED,
}
"""Faults in mid-stream, after content."""
SILENT = {one.fault for one in FAILS if one.kind is Kind.TIMEOUT} | {
    fault for fault, kind in BREAKS.items() if kind is Kind.STALL
}
HARMLESS = [
    *("early_hints", "slow_ttft=200ms", "missing_usage", "missing_done", "extra_after_done"),
    *("split_utf8", "crlf", "comments", "byte_by_byte", "gzip"),
]


class Case(NamedTuple):
    fault: str
    stream: bool
    targets: str
    """`x`: a target with the fault, at the simulator of that place; `o`: a good one; `-`: a closed port."""
    sdk: bool = False

    def __str__(self) -> str:
        return f"{self.fault}-{'stream' if self.stream else 'whole'}-{self.targets}{'-sdk' if self.sdk else ''}"


class Seen(NamedTuple):
    status: int
    text: str
    error: dict[str, Any] | None
    done: bool
    """The answer looks whole."""
    headers: dict[str, str]
    record: dict[str, Any]
    counted: list[int]
    """Requests of this case at each simulator."""

    @property
    def tried(self) -> list[str]:
        """The places that were asked, replays on a new connection included."""
        return [one["provider"][0] for one in self.record["attempts"] for _ in range(1 + one["replayed"])]

    @property
    def kinds(self) -> list[str | None]:
        return [one["error_kind"] for one in self.record["attempts"]]


def cases_of(one: Fails) -> Iterable[Case]:
    for stream in [mode for mode in (True, False) if (one.stream if mode else one.whole)]:
        yield from (Case(one.fault, stream, targets) for targets in ("xoo", "xxo", "x"))


BEFORE = [(one, case) for one in FAILS for case in cases_of(one)]
AFTER = [Case(fault, True, "xoo") for fault in BREAKS]
WHOLE = [Case(fault, stream, "xoo") for fault in HARMLESS for stream in (True, False)]
CLOSED = [Case("closed", stream, targets) for stream in (True, False) for targets in ("-oo", "--o", "-")]
SDK = [
    Case(fault, stream, targets, sdk=True)
    for fault in ("hang_before_headers", "reset_before_headers", "http_429", "http_500", "http_401", "html_200")
    for stream in (True, False)
    for targets in ("xoo", "x")
]
SDK_AFTER = [Case(fault, True, "xoo", sdk=True) for fault in ("cut_mid_stream", "error_event", "missing_finish")]
CASES = [*(case for _, case in BEFORE), *AFTER, *WHOLE, *CLOSED, *SDK, *SDK_AFTER]
NAMES = {case: f"case-{number}" for number, case in enumerate(CASES)}


def config(simulators: list[Simulated], closed: int) -> dict[str, Any]:
    """A provider for each fault at each simulator, and a route for each case, which is also its model's name."""
    providers: dict[str, Any] = {"nobody": {"base_url": f"http://127.0.0.1:{closed}/v1", "api_key": None}}
    routes = {}
    for case, name in NAMES.items():
        targets = []
        for place, sign in enumerate(case.targets):
            provider = "nobody"
            if sign != "-":
                told = {"x-sim-fault": case.fault} if sign == "x" else {}
                provider = "abc"[place] + (f"-{list(FAULTS).index(case.fault.partition('=')[0])}" if told else "")
                if "=" in case.fault and told:
                    provider += "-" + "".join(letter for letter in case.fault.partition("=")[2] if letter.isalnum())
                providers[provider] = {"base_url": simulators[place].base_url, "api_key": None, "headers": told}
            targets.append({"target": f"{provider}/{name}", "name": f"{provider}/{place}"})
        routes[name] = {"targets": targets, "timeouts": SHORT if case.fault in SILENT else LONG}
    return {"providers": providers, "routes": routes}


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[Running, list[Simulated]]]:
    async with AsyncExitStack() as stack:
        # One seed, so that all three would say the same; the first takes its time, so that its first content leaves
        # before the fault that follows.
        simulators = [
            await stack.enter_async_context(Simulated(seed=3, tokens=5, itl=itl, keep=100_000)) for itl in (0.15, 0, 0)
        ]
        closed = stack.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))
        with processes.proxy(config(simulators, closed.getsockname()[1]), folder) as proxy:
            yield proxy, simulators


async def ask_raw(proxy: Running, case: Case) -> dict[str, Any]:
    answer = await post(proxy.port, chat(NAMES[case], case.stream))
    seen: dict[str, Any] = {"status": answer.status, "headers": dict(answer.headers), "error": None, "text": ""}
    if not case.stream or answer.status != 200:
        body = answer.json()
        if answer.status == 200:
            seen["text"] = body["choices"][0]["message"]["content"]
        else:
            seen["error"] = answer.error
        return {**seen, "done": answer.whole and answer.status == 200}
    events = answer.events
    chunks = [event for event in events if event != "[DONE]"]
    seen["text"] = "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", ())
    )
    errors = [chunk["error"] for chunk in chunks if "error" in chunk]
    if errors:
        assert "error" in events[-1], "nothing comes after the error"
        seen["error"] = errors[0]
    assert answer.whole
    return {**seen, "done": events[-1] == "[DONE]"}


async def ask_sdk(client: openai.AsyncOpenAI, case: Case) -> dict[str, Any]:
    text = ""
    headers: dict[str, str] = {}
    try:
        create = client.chat.completions.with_raw_response.create
        response = await create(**chat(NAMES[case], case.stream))
        headers = {name.lower(): value for name, value in response.headers.items()}
        if case.stream:
            async for chunk in response.parse():
                text += "".join(choice.delta.content or "" for choice in chunk.choices)
        else:
            text = response.parse().choices[0].message.content or ""
    except openai.APIStatusError as error:
        headers = {name.lower(): value for name, value in error.response.headers.items()}
        body = error.body if isinstance(error.body, dict) else {}
        return {"status": error.status_code, "headers": headers, "error": body, "text": "", "done": False}
    except openai.APIError as error:
        if not headers:
            raise
        shown = error.body if isinstance(error.body, dict) else {}
        return {"status": 200, "headers": headers, "error": shown, "text": text, "done": False}
    return {"status": 200, "headers": headers, "error": None, "text": text, "done": True}


async def run_all(folder: Path) -> tuple[dict[Case, Seen | Exception], dict[str, Any]]:
    async with running(folder) as (proxy, simulators):
        gate = asyncio.Semaphore(AT_ONCE)

        async with openai.AsyncOpenAI(
            base_url=f"{proxy.base_url}/v1", api_key="none", max_retries=0, timeout=LIMIT_S
        ) as client:

            async def one(case: Case) -> dict[str, Any]:
                async with gate:
                    return await (ask_sdk(client, case) if case.sdk else ask_raw(proxy, case))

            answers = await asyncio.gather(*(one(case) for case in CASES), return_exceptions=True)
        direct = await post(simulators[1].port, chat("direct"))
        counts = [Counter(_model(request.json) for request in simulator.requests) for simulator in simulators]
        seen: dict[Case, Seen | Exception] = {}
        for case, answer in zip(CASES, answers, strict=True):
            if isinstance(answer, BaseException):
                assert isinstance(answer, Exception), answer
                seen[case] = answer
                continue
            record = (await get(proxy.port, f"/api/exchanges/{answer['headers']['x-request-id']}")).json()
            seen[case] = Seen(**answer, record=record, counted=[count[NAMES[case]] for count in counts])
        metrics = (await get(proxy.port, "/metrics")).body.decode()
        return seen, {"text": direct.json()["choices"][0]["message"]["content"], "metrics": metrics, "counts": counts}


def _model(body: object) -> str:
    assert isinstance(body, dict)
    return str(body["model"])


@pytest.fixture(scope="module")
def everything(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[Case, Seen | Exception], dict[str, Any]]:
    return asyncio.run(run_all(tmp_path_factory.mktemp("failover")))


@pytest.fixture
def expected(everything: tuple[dict[Case, Seen | Exception], dict[str, Any]]) -> str:
    """The text of a good answer, the same from every simulator."""
    return str(everything[1]["text"])


@pytest.fixture
def seen(request: pytest.FixtureRequest, everything: tuple[dict[Case, Seen | Exception], dict[str, Any]]) -> Seen:
    """What came of the case that the test is about, with what holds for every case checked."""
    case = next(value for value in request.node.callspec.params.values() if isinstance(value, Case))
    one = everything[0][case]
    if isinstance(one, Exception):
        raise one
    record = one.record
    assert [one.tried.count(place) for place in "abc"] == one.counted, "record and upstreams disagree"
    assert record["status"] == one.status
    assert record["attempts"][-1]["winner"] is (one.status == 200)
    assert one.headers["x-weighbridge-attempts"] == str(len(record["attempts"]))
    assert len(one.tried) <= 4
    assert record["outcome"] == "ok" if one.done else record["outcome"] != "ok"
    assert (one.error is None) is one.done, "it either ends as a whole answer or says that it is none"
    return one


def by_id(case: object) -> str | None:
    return str(case) if isinstance(case, Case) else None


def test_every_fault_of_the_simulator_is_here() -> None:
    here = {Fault.parse(fault).kind for fault in (*(one.fault for one in FAILS), *BREAKS, *HARMLESS)}
    assert here == FAULTS.keys()
    assert {fault for fault, kind in FAULTS.items() if kind.harmless} == {Fault.parse(fault).kind for fault in HARMLESS}


@pytest.mark.parametrize(("one", "case"), BEFORE, ids=by_id)
def test_before_content(one: Fails, case: Case, seen: Seen, expected: str) -> None:
    if not one.spreads or case.targets == "x":
        assert seen.status == one.status
        assert seen.error
        assert seen.kinds == [one.kind] * len(seen.kinds)
        # A kept connection that dies unanswered is replaced, which counts as a try.
        assert len(seen.kinds) <= one.tries == len(seen.tried)
        return
    bad = case.targets.count("x")
    assert (seen.status, seen.text, seen.done) == (200, expected, True)
    assert seen.kinds == [one.kind] * bad + [None]
    assert seen.headers["x-weighbridge-target"].startswith("abc"[bad])


@pytest.mark.parametrize("case", AFTER, ids=by_id)
def test_after_content(case: Case, seen: Seen, expected: str) -> None:
    """On a machine that stood still, content and fault may come at once: then nothing was sent on, and b answers."""
    if len(seen.record["attempts"]) == 2:
        assert (seen.text, seen.done) == (expected, True)
        return
    assert seen.status == 200
    assert not seen.done
    assert seen.error
    assert seen.error["message"]
    assert seen.text
    assert expected.startswith(seen.text)
    assert seen.kinds == [BREAKS[case.fault]]
    assert seen.record["outcome"] == "truncated"


def test_most_faults_after_content_did_come_after_content(
    everything: tuple[dict[Case, Seen | Exception], dict[str, Any]],
) -> None:
    broken = [everything[0][case] for case in AFTER]
    assert sum(isinstance(one, Seen) and not one.done for one in broken) > len(AFTER) / 2


@pytest.mark.parametrize("case", WHOLE, ids=by_id)
def test_what_is_odd_but_whole_is_served(case: Case, seen: Seen, expected: str) -> None:
    assert (seen.status, seen.text, seen.done) == (200, expected, True)
    assert seen.kinds == [None]


@pytest.mark.parametrize("case", CLOSED, ids=by_id)
def test_a_closed_port(case: Case, seen: Seen, expected: str) -> None:
    closed = case.targets.count("-")
    if case.targets == "-":
        assert (seen.status, seen.kinds) == (502, [Kind.CONNECT] * 2)
        assert seen.error
        assert seen.error["code"] == "upstream_unreachable"
    else:
        assert (seen.text, seen.done) == (expected, True)
        assert seen.kinds == [Kind.CONNECT] * closed + [None]


@pytest.mark.parametrize("case", SDK, ids=by_id)
def test_before_content_with_the_sdk(case: Case, seen: Seen, expected: str) -> None:
    one = next(one for one in FAILS if one.fault == case.fault)
    if case.targets == "x":
        assert (seen.status, seen.done) == (one.status, False)
    else:
        assert (seen.status, seen.text, seen.done) == (200, expected, True)


@pytest.mark.parametrize("case", SDK_AFTER, ids=by_id)
def test_after_content_the_sdk_raises(case: Case, seen: Seen, expected: str) -> None:
    assert seen.done is (len(seen.record["attempts"]) == 2)
    assert expected.startswith(seen.text)


def test_the_metrics_agree_to_the_request(
    everything: tuple[dict[Case, Seen | Exception], dict[str, Any]],
) -> None:
    results, more = everything
    lines = [line for line in more["metrics"].splitlines() if not line.startswith("#")]

    def total(name: str) -> int:
        return round(sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{")))

    records = [one.record for one in results.values() if isinstance(one, Seen)]
    assert total("weighbridge_requests_total") == len(CASES) == len(records)
    assert total("weighbridge_attempts_total") == sum(len(record["attempts"]) for record in records)
    replays = sum(attempt["replayed"] for record in records for attempt in record["attempts"])
    closed = sum(attempt["provider"] == "nobody" for record in records for attempt in record["attempts"])
    asked = sum(sum(count.values()) for count in more["counts"]) - 1
    assert asked == total("weighbridge_attempts_total") + replays - closed
