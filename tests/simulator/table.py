"""The long tables: every scenario at its full length, as Markdown.

A scenario is a function that yields lines (what was tried, its figures); add one with `@scenario("title")`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from policies.retry import Budget
from policies.verdict import Kind
from proxy.bench.simulate import Fault, Figures, Result, Traffic
from tests.simulator.cluster import PATIENT, burst, run, slow_one, trap, two_keys
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


@scenario("The same, with circuit breakers")
def _breaker() -> Lines:
    for tries in (1, 2):
        for policy in (LeastLoaded(), TwoChoices()):
            what = f"{type(policy).__name__}, {tries} tr{'y' if tries == 1 else 'ies'}"
            yield what, usual(trap(policy, 360.0, f"retries: {{per_request: {tries}}}"))


@scenario("The first of two targets is out for 60 s (ordered)")
def _outage() -> Lines:
    for kind in ("refuse", "fail", "hang", "stall", "throttle"):
        fault = Fault(kind, 30.0, 90.0)  # type: ignore[arg-type]
        world = {"a": Figures(slots=200, faults=(fault,)), "b": Figures(slots=200)}
        result = run(world, Traffic(((180.0, 10.0),)), "timeouts: {ttft: 5s, stall: 10s}")
        tried = result.attempts("a")
        back = next(one.begun for one in tried if one.kind is Kind.OK and one.begun > 90.0)
        failed = sum(one.kind is not Kind.OK for one in tried)
        yield kind, {**usual(result), "failed there": str(failed), "back after s": f"{back - 90.0:.1f}"}


@scenario("150 % load for 60 s, then 60 %; four targets, 10 s to the first token")
def _burst() -> Lines:
    affords = Budget.affords
    for what, notices, budget, breaker in (
        ("nothing is cancelled, no budget, no breaker", False, False, "false"),
        ("cancelled, no budget, no breaker", True, False, "false"),
        ("cancelled, budget, no breaker", True, True, "false"),
        ("cancelled, budget, breaker", True, True, "true"),
    ):
        Budget.affords = affords if budget else (lambda self, cost: True)  # type: ignore[method-assign, assignment]
        route = f"timeouts: {{ttft: 10s}}\nbreaker: {breaker}"
        result = burst(notices=notices, route=route, policy=RoundRobin(), tail=120.0)
        after = result.between(100.0, 190.0).success
        yield what, {**usual(result), "success from 20 s after the burst": f"{after:.1%}"}
    Budget.affords = affords  # type: ignore[method-assign]


@scenario("Two keys with 30,000 tokens a minute each, 80 % load in bursts of 1.5 times what the limits allow")
def _limits() -> Lines:
    for what, tells in (("limits unknown: cool-down and failover alone", False), ("limits foreseen", True)):
        result = two_keys(tells=tells, seconds=3360.0, policy=TwoChoices())
        counts = {
            "429s from upstream per 1,000": f"{result.per_1000(Kind.RATE_LIMIT):.1f}",
            "429s to clients per 1,000": f"{result.refused_per_1000(429):.1f}",
        }
        yield what, {**usual(result), **counts}


@scenario("2 % of the answers begin ten times as late; two targets")
def _hedge() -> Lines:
    world = {name: Figures(slots=200, tail=0.02) for name in "ab"}
    for what in ("", "hedge: {after: p99, budget: 5%}", "hedge: {after: p95, budget: 5%}"):
        traffic = Traffic(((600.0, 12.0),), input=100.0, spread=0.3)
        yield what or "no hedge", usual(run(world, traffic, f"{PATIENT}\n{what}"))


def main() -> None:
    for title, function in SCENARIOS.items():
        lines = list(function())
        names = list(lines[0][1])
        print(f"\n### {title}\n\n| | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
        for label, figures in lines:
            print(f"| {label} | {' | '.join(figures[name] for name in names)} |", flush=True)
