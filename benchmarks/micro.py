"""What single parts of the hot path cost, in microseconds a call: where the CPU of a request goes.

    python benchmarks/micro.py [NAME …]

Each part is timed in batches, in turn with all others; the table gives the median and the lowest batch. Add a part by
writing a function that prepares it and returns what one call does, and a row in `PARTS`.
"""

from __future__ import annotations

import argparse
import atexit
import functools
import statistics
import sys
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # the parts of this checkout, installed or not

from load import chat_body
from mock_upstream import COMPLETION, stream_events
from spread import quantile
from tables import markdown

Part = Callable[[], object]
_EVENTS = stream_events(20)
_ROUTES = '"one": {"targets": ["mock/a"]}, "three": {"targets": ["mock/a", "mock/b", "mock/c"]}'
_BATCHES = 15
_BATCH_S = 0.02


def request_parse() -> Part:
    from proxy.wire.chat import ChatRequest

    raw = chat_body("mock", False)
    return lambda: ChatRequest.parse(raw)


def request_for_upstream() -> Part:
    """Another model name upstream, and usage asked for: both edits are made."""
    from proxy.wire.chat import ChatRequest

    raw = chat_body("mock", True).replace(b',"stream_options":{"include_usage":true}', b"")
    ask = ChatRequest.parse(raw)
    return lambda: ask.for_upstream("another", ask_usage=True)


def _front(routes: str = _ROUTES) -> Any:
    from proxy import config
    from proxy.assemble import front

    text = (
        '{"providers": {"mock": {"dialect": "openai", "base_url": "http://127.0.0.1:1/v1", "api_key": null}},'
        f' "routes": {{{routes}}},'
        ' "keys": [{"name": "bench", "key": "env:BENCH_KEY"}]}'
    )
    loaded = config.parse(text, source="micro", format="json", env={"BENCH_KEY": "sk-bench-0123456789abcdef"})
    return front(loaded, lambda provider: None, Random(0))  # type: ignore[arg-type, return-value]


def key_check() -> Part:
    gate = _front().gate
    headers = [(b"host", b"127.0.0.1"), (b"authorization", b"Bearer sk-bench-0123456789abcdef")]
    return lambda: gate.client(headers)


def key_limits() -> Part:
    """What a key with limits pays beside, and no other: admitted, settled and charged."""
    from policies.allowance import Allowed
    from proxy.allowances import Allowances, admit, settle
    from proxy.clock import RealClock
    from proxy.wire.chat import ChatRequest

    allowances = Allowances(RealClock(), None)
    one = allowances.load({"bench": Allowed(rpm=1e12, tpm=1e15, per_day=1e12)})["bench"]
    ask, exchange = ChatRequest.parse(chat_body("one", False)), _exchange()
    exchange.key = "bench"

    class Run:
        def __init__(self) -> None:
            self.exchange = exchange

    run: Any = Run()

    def once() -> None:
        settle(one, admit(one, run, ask), exchange)
        allowances.accept(exchange)

    return once


def _plan(model: str) -> Part:
    from proxy.wire.chat import ChatRequest

    router = _front().router
    ask = ChatRequest.parse(chat_body(model, False))
    return lambda: router.plan(router.find(model, True), ask)


def plan_one() -> Part:
    return _plan("one")


def plan_three() -> Part:
    return _plan("three")


def _policy(policy: str) -> Part:
    """The whole decision of a route of three whose policy has something to go by."""
    from proxy.router import Caller
    from proxy.wire.chat import ChatRequest

    routes = f'"three": {{"targets": ["mock/a", "mock/b", "mock/c"], "policy": {policy}}}'
    front = _front(routes)
    router, caller = front.router, Caller(at=1_790_000_000.0)
    route = router.find("three", True)
    if route.learner is not None:
        for target in route.targets:
            for at in range(200):
                route.learner.accept(_answered(target.name, at))
    ask = ChatRequest.parse(chat_body("three", False))
    return lambda: router.plan(route, ask, caller)


def _answered(target: str, at: int) -> Any:
    exchange = _exchange()
    exchange.at = 1_790_000_000.0 - at
    exchange.route, exchange.decision = "three", exchange.decision._replace(candidates=(target,), unit=f"{target} {at}")
    attempt = exchange.attempts[0]
    attempt.target = target
    attempt.marks.first_content = attempt.marks.sent + 300_000_000 + at * 1_000_000
    return exchange


def policies() -> dict[str, tuple[Callable[[], Part], int]]:
    rules = '[{"when": {"tokens": ">8000", "header": {"x-tier": "gold"}}}, {"when": {"tools": true}}]'
    settings = {
        "weighted": '"weighted"',
        "fastest": '"fastest"',
        "fastest, quantile": '{"kind": "fastest", "quantile": 0.9}',
        "cheapest": '{"kind": "cheapest", "slo": "2s"}',
        "sticky": '"sticky"',
        "conditional, no rule holds": f'{{"kind": "conditional", "rules": {rules}}}',
        "canary": '{"kind": "canary", "candidate": "mock/c"}',
        "bandit": '"bandit"',
    }
    return {f"plan: {name}": (functools.partial(_policy, text), 1) for name, text in settings.items()}


def _condition(limited: bool) -> Part:
    """What an attempt costs beside itself: planned among three, begun, answered, ended; `limited`: limits are known."""
    from policies.limits import Told, What
    from proxy.wire.chat import ChatRequest
    from proxy.wire.chunk import Usage

    router = _front().router
    ask = ChatRequest.parse(chat_body("three", False))
    route = router.find("three", True)
    condition = route.targets[0].condition
    attempt = _exchange().attempts[0]
    attempt.usage = Usage(96, 0, 0, 20, 0)
    headers = [(b"content-type", b"application/json"), (b"server", b"x"), (b"date", b"today")]
    if limited:
        from policies.limits import Limits

        condition.limits = Limits()
        condition.limits.learn({(What.TOKENS, 60.0): Told(1e12, 1e12, 0.0)}, 0.0, 0.0)

    def one() -> None:
        begun = condition.begin(attempt, ask)
        condition.heard(headers, begun, None)  # type: ignore[arg-type]
        condition.answered(attempt, True, begun.probe)
        condition.end(attempt, begun, True)

    return one


def health_unlimited() -> Part:
    return _condition(False)


def health_limited() -> Part:
    return _condition(True)


def _decision(policy: str, left: float) -> Part:
    """All that a request decides and leaves behind: plan, reserve, breaker, settle, and the record as it is stored.

    `left`: share of a limit that is left; under a half, the prompt's tokens are counted with care, each time anew here.
    """
    from policies.limits import Limits, Told, What
    from proxy.measure.store.rows import _explained
    from proxy.router import Caller
    from proxy.wire.chat import ChatRequest
    from proxy.wire.chunk import Usage

    front = _front(f'"three": {{"targets": ["mock/a", "mock/b", "mock/c"], "policy": {policy}}}')
    router, caller = front.router, Caller(at=1_790_000_000.0)
    route, ask = router.find("three", True), ChatRequest.parse(chat_body("three", False))
    attempt = _exchange().attempts[0]
    attempt.usage = Usage(96, 0, 0, 20, 0)
    for target in route.targets:
        limits = target.condition.limits = Limits()
        limits.learn({(What.TOKENS, 60.0): Told(1e12, 1e12 * left, 0.0)}, 0.0, 0.0)
        target.condition.quiet = left > 0.5

    def one() -> None:
        ask._tokens = None
        plan = router.plan(route, ask, caller)
        condition = plan.targets[0].condition
        begun = condition.begin(attempt, ask)
        condition.heard((), begun, None)  # type: ignore[arg-type]
        condition.answered(attempt, True, begun.probe)
        condition.end(attempt, begun, True)
        _explained(plan.decision)

    return one


def decisions() -> dict[str, tuple[Callable[[], Part], int]]:
    kinds = ("ordered", "fastest", "weighted")
    whole = {f"decision, whole: {kind}": (functools.partial(_decision, f'"{kind}"', 1.0), 1) for kind in kinds}
    return {**whole, "decision, whole: fastest, limits near": (functools.partial(_decision, '"fastest"', 0.3), 1)}


def answer_parse() -> Part:
    from proxy.providers.openai import BodyDecoder

    def decode() -> object:
        decoder = BodyDecoder()
        decoder.feed(COMPLETION)
        return decoder.close()

    return decode


def _decoding(pieces: list[bytes]) -> Part:
    """A stream that is passed on byte for byte, read piece by piece."""
    from proxy.providers.base import Endpoint, Minted
    from proxy.providers.passing import PassingStream
    from proxy.wire.chat import ChatRequest

    ask, to, minted = ChatRequest.parse(chat_body("mock", True)), Endpoint("mock", "http://x", "mock"), Minted("x", 0)

    def decode() -> object:
        decoder = PassingStream(ask, to, minted)
        for piece in pieces:
            decoder.feed(piece)
        return decoder.close()

    return decode


def stream_paced() -> Part:
    """22 events, each in a read of its own."""
    return _decoding(_EVENTS)


def stream_burst() -> Part:
    """22 events in one read."""
    return _decoding([b"".join(_EVENTS)])


def stream_render() -> Part:
    """22 events, each written on its own, to a client that asked for usage."""
    from proxy.providers.openai import StreamDecoder
    from proxy.wire.render import stream_bytes

    decoder = StreamDecoder(1)
    batches = [decoder.feed(event) for event in _EVENTS]
    return lambda: [stream_bytes(batch, True) for batch in batches]


def _exchange() -> Any:
    """One as it stands after a plain answer, made the way the engine makes it."""
    from proxy.record import Attempt, Decision, Exchange
    from proxy.wire.chunk import Usage

    exchange = Exchange("bench-0123456789", 1_790_000_000.5, 1_000_000)
    attempt = Attempt(1, "mock/a", "mock", "a", 1_010_000)
    attempt.status, attempt.usage, attempt.usage_source = 200, Usage(96, 0, 0, 20, 0), "provider"
    attempt.finish_reason, attempt.response_model = "stop", "mock"
    exchange.key, exchange.route, exchange.model, exchange.status = "bench", "one", "one", 200
    exchange.decision = Decision("ordered", 1.0, ("mock/a",))
    exchange.attempts.append(attempt)
    exchange.winner = attempt
    for marks in (exchange.marks, attempt.marks):
        marks.sent, marks.headers, marks.first_byte, marks.end = 1_050_000, 1_300_000, 1_300_000, 1_400_000
    return exchange


def record_made() -> Part:
    return _exchange


def metrics_accept() -> Part:
    from proxy.measure.prometheus import Metrics

    metrics = Metrics(["mock/a"], {"one": ["mock/a"]}, version="bench")
    exchange = _exchange()
    return lambda: metrics.accept(exchange)


def recent_accept() -> Part:
    """A second of them falls into the same bucket, which is closed once."""
    from proxy.measure.recent import Recent

    recent = Recent(["mock/a"])
    exchange = _exchange()
    return lambda: recent.accept(exchange)


def store_rows() -> Part:
    """The two rows of an exchange as the writer's thread makes them, without the insert."""
    from proxy.measure.store import rows

    exchange = _exchange()
    attempt = exchange.attempts[0]
    stamps = rows.Timestamps()

    def make() -> object:
        at = stamps.text(exchange.at)
        return rows.exchange_row(1, exchange, at), rows.attempt_row(1, attempt, False)

    return make


def store_whole() -> Part:
    """An exchange from the queue to the committed row; one call is 250 of them, on the wall clock."""
    from proxy.measure.store.writer import StoreSink

    folder = tempfile.TemporaryDirectory(prefix="weighbridge-micro-")
    sink = StoreSink.open(Path(folder.name) / "micro.db")
    atexit.register(folder.cleanup)
    atexit.register(sink.close)  # runs before the folder goes
    exchange = _exchange()

    def write() -> object:
        for _ in range(250):
            sink.accept(exchange)
        if not sink.flush() or any(sink.losses().values()):
            raise RuntimeError(f"the store lost records: {sink.losses()}")
        return None

    return write


PARTS: dict[str, tuple[Callable[[], Part], int]] = {
    "key check": (key_check, 1),
    "key limits, where a key has them": (key_limits, 1),
    "request: parse and check": (request_parse, 1),
    "request: rewrite for upstream": (request_for_upstream, 1),
    "plan: one target": (plan_one, 1),
    "plan: three targets": (plan_three, 1),
    **policies(),
    "health: breaker, times, budget": (health_unlimited, 1),
    "health: the same, limits reserved and settled": (health_limited, 1),
    **decisions(),
    "answer: parse and check": (answer_parse, 1),
    "stream event, read one by one": (stream_paced, len(_EVENTS)),
    "stream event, read at once": (stream_burst, len(_EVENTS)),
    "stream event, render": (stream_render, len(_EVENTS)),
    "record: make and fill": (record_made, 1),
    "metrics: one exchange": (metrics_accept, 1),
    "recent: one exchange": (recent_accept, 1),
    "store: rows of one exchange": (store_rows, 1),
    "store: one exchange, committed": (store_whole, 250),
}
"""Name -> (how it is prepared, how many units one call does). The figures are per unit."""


def timed(names: list[str]) -> dict[str, list[float]]:
    """Microseconds per unit of each batch, the batches of all parts taking turns."""
    timers = {name: timeit.Timer(PARTS[name][0]()) for name in names}
    calls = {name: max(1, int(_BATCH_S / max(timer.timeit(3) / 3, 1e-7))) for name, timer in timers.items()}
    seen: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(_BATCHES):
        for name, timer in timers.items():
            seen[name].append(timer.timeit(calls[name]) / calls[name] / PARTS[name][1] * 1e6)
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description="Costs of single parts of the hot path.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"part of a name; default all: {', '.join(PARTS)}")
    wanted = parser.parse_args().names
    names = [name for name in PARTS if not wanted or any(word in name for word in wanted)]
    if not names:
        parser.error(f"no such part; there are: {', '.join(PARTS)}")
    lines = [
        [name, f"{statistics.median(costs):.2f}", f"{min(costs):.2f}", f"{quantile(costs, 0.9):.2f}"]
        for name, costs in timed(names).items()
    ]
    print(markdown(["part", "median us", "lowest us", "p90 us"], lines))


if __name__ == "__main__":
    main()
