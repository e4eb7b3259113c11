"""The course of the demo: start, load, brown-out, recovery, then the table and the audit of all counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import NamedTuple

from proxy.demo.audit import audit
from proxy.demo.load import CLIENTS, Load
from proxy.demo.processes import EXPERIMENT, Children, DemoError, Running
from proxy.demo.screen import Screen, Standing
from proxy.demo.tally import tallies

HEALTHY: Mapping[str, object] = {"ttft": "lognormal(80ms,0.25)", "faults": []}
SICK: Mapping[str, object] = {
    "ttft": "lognormal(800ms,0.6)",
    "faults": ["http_503:0.2", "http_500:0.1", "http_429=retry_after:2:0.2"],
}
CROWDED: Mapping[str, object] = {"faults": ["http_429=retry_after:1:0.1"]}
"""What the second provider does with the requests that the first one drives to it."""


class Verdict(NamedTuple):
    """What the demo has shown."""

    agree: bool
    errors: int
    """Requests whose client got no whole answer."""


def tell(screen: Screen, children: Children, *, seconds: float, port: int, keep: bool) -> Verdict:
    """The whole demo. Raises `DemoError`, and `sqlite3.Error` when the records cannot be read."""
    with screen.waiting("starting three simulated providers and the proxy"):
        providers = children.start_providers(HEALTHY)
        proxy = children.start_proxy(providers, port)
    url = f"http://127.0.0.1:{proxy.port}/v1"
    screen.started(url)
    load = Load(url, screen.heard)
    bounds = asyncio.run(_run_phases(screen, load, providers, seconds))
    with screen.waiting("comparing the counts"):
        checks = audit(load.seen, children.store, proxy, providers)
    screen.result(tallies(children.store, bounds), children.store)
    screen.shadow(proxy.ask_json(f"/api/shadow/{EXPERIMENT}"), children.store)
    agree = all(check.agree for check in checks)
    screen.audit(checks, agree)
    for error in sorted({one.error for one in load.seen if one.error is not None})[:5]:
        screen.warn(f"a client saw: {error}")
    if keep:
        screen.kept(proxy, providers)
        _wait_while_all_live(children)
    return Verdict(agree, load.errors)


async def _run_phases(
    screen: Screen, load: Load, providers: Mapping[str, Running], seconds: float
) -> tuple[float, float]:
    """Three phases of equal length; gives the moments between them, in seconds since the epoch."""

    async def phase() -> None:
        before = Standing.of(load)
        await load.run(seconds / 3)
        screen.answered(before, Standing.of(load))

    try:
        with screen.progress(seconds):
            screen.normal(CLIENTS, load.app.name)
            await phase()
            began = time.time()
            await _turn(providers, primary=SICK, second=CROWDED)
            screen.brown_out()
            await phase()
            ended = time.time()
            await _turn(providers, primary=HEALTHY, second=HEALTHY)
            screen.recovery()
            await phase()
        return began, ended
    finally:
        await load.aclose()


async def _turn(providers: Mapping[str, Running], **settings: Mapping[str, object]) -> None:
    for name, wanted in settings.items():
        await asyncio.to_thread(providers[name].ask, "/control", wanted)


def _wait_while_all_live(children: Children) -> None:
    """Until Ctrl-C. Raises `DemoError` when a child ends by itself."""
    try:
        while (dead := children.dead()) is None:
            time.sleep(0.5)
    except KeyboardInterrupt:
        return
    raise DemoError(f"{dead.name} has ended with status {dead.process.returncode}.\nIts log tells more: {dead.log}")
