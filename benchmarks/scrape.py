"""How long a scrape holds up the event loop: the worst lateness of a 1 ms timer while `/metrics` is rendered.

`python benchmarks/scrape.py [--series 5000] [--scrapes 20]`. The loop does nothing else, so the figure is the scrape's
own: it is rendered in a thread, and what is left is the interpreter's lock.
"""

from __future__ import annotations

import argparse
import asyncio
import time

from policies.verdict import Kind, Outcome
from proxy.measure.prometheus import Metrics
from proxy.record import Attempt, Exchange

ROUTES = 10
SERIES_OF_TARGET = 270
"""Of one target on ten routes, about."""


def metrics(series: int) -> Metrics:
    """With traffic of every target on every route, so that `series` are shown (about)."""
    targets = [f"provider-{number}/model" for number in range(max(1, series // SERIES_OF_TARGET))]
    shown = Metrics((), {f"route-{number}": targets for number in range(ROUTES)}, version="benchmark")
    for route in range(ROUTES):
        for number, target in enumerate(targets):
            exchange = Exchange(f"req_{route}_{number}", 0.0, 1)
            attempt = Attempt(1, target, "provider", "model", 1)
            attempt.marks.sent, attempt.marks.end = 2, 90_000_000
            attempt.kind, attempt.outcome = Kind.SERVER_ERROR, Outcome.UPSTREAM_ERROR
            exchange.route, exchange.outcome, exchange.marks.end = f"route-{route}", attempt.outcome, 91_000_000
            exchange.attempts.append(attempt)
            shown.accept(exchange)
    return shown


async def worst_stall(shown: Metrics, scrapes: int) -> tuple[float, float]:
    """Milliseconds: the worst lateness while scraping, and what it was without."""

    async def watch(until: asyncio.Event) -> float:
        worst = 0.0
        while not until.is_set():
            begun = time.perf_counter()
            await asyncio.sleep(0.001)
            worst = max(worst, time.perf_counter() - begun - 0.001)
        return worst * 1e3

    async def during(seconds: float) -> float:
        quiet = asyncio.Event()
        watching = asyncio.create_task(watch(quiet))
        await asyncio.sleep(seconds)
        quiet.set()
        return await watching

    idle = await during(1.0)
    done = asyncio.Event()
    watching = asyncio.create_task(watch(done))
    for _ in range(scrapes):
        await asyncio.to_thread(shown.render, "")
    done.set()
    return await watching, idle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=5000)
    parser.add_argument("--scrapes", type=int, default=20)
    args = parser.parse_args()
    shown = metrics(args.series)
    begun = time.perf_counter()
    body, _ = shown.render("")
    took = (time.perf_counter() - begun) * 1e3
    count = sum(not line.startswith(b"#") for line in body.splitlines())
    worst, idle = asyncio.run(worst_stall(shown, args.scrapes))
    print(f"{count} series, {len(body) / 1024:.0f} KiB, rendered in {took:.0f} ms")
    print(f"worst stall of the event loop {worst:.1f} ms in {args.scrapes} scrapes ({idle:.1f} ms without)")


if __name__ == "__main__":
    main()
