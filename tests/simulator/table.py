"""The long tables: every scenario at its full length, as Markdown.

A scenario is a function that yields lines (what was tried, its figures); add one with `@scenario("title")`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from proxy.bench.simulate import Result
from tests.simulator.cluster import burst, capacity, slow_one, trap
from tests.simulator.naive import Greedy, LeastLoaded, RoundRobin, TwoChoices

Lines = Iterable[tuple[str, Mapping[str, str]]]
SCENARIOS: dict[str, Callable[[], Lines]] = {}


def scenario(title: str) -> Callable[[Callable[[], Lines]], Callable[[], Lines]]:
    def add(function: Callable[[], Lines]) -> Callable[[], Lines]:
        SCENARIOS[title] = function
        return function

    return add


def usual(result: Result) -> dict[str, str]:
    return {
        "n": str(result.n),
        "success": f"{result.success:.2%}",
        "p50 TTFT s": f"{result.ttft(0.5):.2f}",
        "p99 TTFT s": f"{result.ttft(0.99):.2f}",
        "attempts / request": f"{result.tries:.3f}",
    }


@scenario("One of three targets four times slower for a third of the run, 60 % load; naive policies")
def _slow() -> Lines:
    greedy = Greedy()
    for policy in (RoundRobin(), LeastLoaded(), TwoChoices(), greedy):
        watch = greedy if policy is greedy else None
        yield type(policy).__name__, usual(slow_one(policy, 360.0, watch=watch))


@scenario("One of three targets fails within 50 ms for a third of the run; one try, no breaker")
def _trap() -> Lines:
    for policy in (LeastLoaded(), TwoChoices()):
        yield type(policy).__name__, usual(trap(policy, 360.0, "retries: {per_request: 1}\nbreaker: false"))


@scenario("150 % load for 60 s, then 60 %; four targets, 10 s to the first token; no breaker, no retry budget")
def _burst() -> Lines:
    for notices in (True, False):
        result = burst(notices=notices, route="timeouts: {ttft: 10s}\nbreaker: false", policy=RoundRobin(), tail=120.0)
        after = result.goodput(100.0, 190.0) / (0.6 * capacity(4, 8))
        what = "upstream work is cancelled" if notices else "the upstream works on"
        yield what, {**usual(result), "goodput from 20 s after the burst": f"{after:.0%}"}


def main() -> None:
    for title, function in SCENARIOS.items():
        lines = list(function())
        names = list(lines[0][1])
        print(f"\n### {title}\n\n| | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
        for label, figures in lines:
            print(f"| {label} | {' | '.join(figures[name] for name in names)} |", flush=True)
