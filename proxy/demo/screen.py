"""What is shown: a story in numbered chapters, a progress line on a terminal, a closing table."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from proxy.demo.processes import PROVIDERS, ROUTE, Running
from proxy.demo.tally import Tally, quantile

if TYPE_CHECKING:
    from rich.table import Table

    from proxy.demo.audit import Check
    from proxy.demo.load import Load

_INDENT = 14
_QUANTILES = (0.5, 0.95, 0.99)
_PHASES = ("before", "brown-out", "after")
_SQL = "SELECT target, error_kind, count(*) FROM v_attempts GROUP BY 1, 2"


class Standing(NamedTuple):
    """What the clients have had so far."""

    requests: int
    errors: int
    answered: Mapping[str, int]
    """By target."""

    @classmethod
    def of(cls, load: Load) -> Standing:
        return cls(len(load.seen), load.errors, dict(load.answered))


class Screen:
    """Plain lines where the output is no terminal; colours and a progress line where it is."""

    def __init__(self) -> None:
        from rich.console import Console

        reconfigure = getattr(sys.stdout, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # an output without UTF-8 gets a ? for a sign that it lacks
        # soft_wrap: long lines are left to the terminal, so that what is copied or grepped is whole.
        self._console = Console(highlight=False, soft_wrap=True)
        self._live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._tick: Callable[[Load], None] = lambda load: None

    # What lives.

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        if not self._live:
            yield
            return
        with self._console.status(text):
            yield

    @contextmanager
    def progress(self, seconds: float) -> Iterator[None]:
        """A line that lives while the load runs; on a terminal only."""
        if not self._live:
            yield
            return
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (TextColumn(" " * (_INDENT - 1)), BarColumn(24), TextColumn("{task.description}"))
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task("", total=seconds)

            def tick(load: Load) -> None:
                done = min(bar.tasks[0].elapsed or 0.0, seconds)
                text = f"{done:.0f} of {seconds:g} s, {len(load.seen):,} requests, {load.errors} errors"
                bar.update(task, completed=done, description=text)

            self._tick = tick
            try:
                yield
            finally:
                self._tick = lambda load: None

    def heard(self, load: Load) -> None:
        """One more answer has come."""
        self._tick(load)

    # The chapters.

    def opening(self) -> None:
        self._line("[bold]weighbridge demo[/]: three simulated providers, one proxy, a load, a brown-out")

    def started(self, url: str) -> None:
        first, second, third = PROVIDERS
        self._chapter(
            "1 Start",
            f"The proxy listens on [cyan]{url}[/]",
            f"Its route [cyan]{ROUTE}[/] asks {first} first, then {second}, then {third},",
            "which speak the dialects of OpenAI, Anthropic and Gemini.",
            "Most are mirrored to a cheaper candidate; nobody sees its answers.",
            f"Watch it live, in a browser: [bold cyan]{url.removesuffix('v1')}[/]",
            "Use it while this runs:",
        )
        body = f'{{"model": "{ROUTE}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
        self._line()
        self._plain(f"  curl {url}/chat/completions \\\n    -d '{body}'")
        self._plain(f'  OpenAI(base_url="{url}", api_key="any")  # model="{ROUTE}"')

    def normal(self, clients: int, app: str) -> None:
        self._chapter("2 Normal", f"{clients} clients ask by {app}, most for a stream.")

    def brown_out(self) -> None:
        self._chapter(
            "3 Brown-out",
            "primary answers half of its requests with 503, 500 or 429, and its",
            "first tokens take 0.8 s instead of 0.08; the proxy waits for 1 s.",
            "second, crowded by those who leave primary, sends a few 429s too.",
        )

    def recovery(self) -> None:
        self._chapter("4 Recovery", "primary and second are well again.")

    def answered(self, before: Standing, now: Standing) -> None:
        """What the clients got in between."""
        requests, errors = now.requests - before.requests, now.errors - before.errors
        counts = {name: now.answered.get(name, 0) - before.answered.get(name, 0) for name in PROVIDERS}
        by = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count) or "nobody"
        colour = "red" if errors else "green"
        self._more(f"[{colour}]{requests:,} requests, {errors:,} errors[/]; from {by}")

    def result(self, phases: Sequence[Tally], store: Path) -> None:
        requests, errors = sum(tally.requests for tally in phases), sum(tally.errors for tally in phases)
        failed = sum(tally.failed.total() for tally in phases)
        colour = "bold red" if errors else "bold green"
        for_clients = f"[{colour}]{errors:,} of {requests:,} requests failed for a client[/]"
        self._chapter("5 Result", f"{failed:,} attempts failed; {for_clients}")
        self._line()
        self._console.print(_table(phases), soft_wrap=False)
        self._line()
        self._line("TTFT: from request to first content, streams only. E2E: to the answer's end.")
        if any(quantile(samples, q) is None for q in _QUANTILES for tally in phases for samples in _samples(tally)):
            self._line("–: n is too small for that quantile; a longer run (--seconds) has more.")
        self._line("All this is from the records, which stay:")
        self._plain(f'  sqlite3 {store} \\\n    "{_SQL}"')

    def shadow(self, told: Mapping[str, Any], store: Path) -> None:
        """What came of the requests that were mirrored to the candidate."""
        verdict = {"promote": "[bold green]promote it[/]", "reject": "[bold red]keep the primary[/]"}
        words = verdict.get(told["state"], f"[bold yellow]{told['state']}[/]")
        label = f" ({told['label']})" if told["label"] else ""
        self._chapter("6 Shadow", f"{told['units']:,} conversations with the candidate: {words}{label}")
        for line in textwrap.wrap(told["why"], 80 - _INDENT):
            self._more(line)
        self._line()
        self._console.print(_metrics(told), soft_wrap=False)
        self._line()
        self._line("However often one looks, at most 2.5 % of verdicts are wrong. The whole report:")
        self._plain(f"  weighbridge shadow report {told['name']} --store {store} --format html > report.html")

    def audit(self, checks: Sequence[Check], agree: bool) -> None:
        words = "[bold green]Every count agrees, to the request:[/]" if agree else "[bold red]The counts differ:[/]"
        self._chapter("7 Audit", words)
        wide = max(len(check.left) for check in checks)
        for check in checks:
            sign, colour = ("=", "green") if check.agree else ("!=", "bold red")
            self._line(f"  {check.what:<10}{check.left:<{wide}} [{colour}]{sign}[/] {check.right}")

    def kept(self, proxy: Running, providers: Mapping[str, Running]) -> None:
        root = f"http://127.0.0.1:{proxy.port}"
        self._chapter("8 Kept", "All go on serving until Ctrl-C; the live page is the first:")
        self._line()
        for path in ("/", "/v1", "/metrics", "/readyz", "/api/exchanges?limit=5"):
            self._plain(f"  {'proxy':<9} {root}{path}")
        for name, running in providers.items():
            self._plain(f"  {name:<9} http://127.0.0.1:{running.port}/stats and /control")
        self._line()
        port = providers[PROVIDERS[0]].port
        self._plain(f'  curl http://127.0.0.1:{port}/control -d \'{{"faults": ["http_503:0.5"]}}\'')

    def warn(self, text: str) -> None:
        self._console.print(text, style="red", markup=False)

    def stopped(self, store: Path) -> None:
        self._line()
        self._plain(f"Stopped. What was recorded until then: {store}" if store.exists() else "Stopped.")

    # Lines.

    def _line(self, text: str = "") -> None:
        """`text` may hold rich's markup."""
        self._console.print(text)

    def _plain(self, text: str) -> None:
        """To be copied: no markup, and nothing taken for it."""
        self._console.print(text, style="cyan", markup=False)

    def _more(self, text: str) -> None:
        """A further line of the chapter."""
        self._line(" " * _INDENT + text)

    def _chapter(self, title: str, *lines: str) -> None:
        self._line()
        self._line(f"[bold]{title.ljust(_INDENT)}[/]{lines[0]}")
        for text in lines[1:]:
            self._more(text)


def _metrics(told: Mapping[str, Any]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from proxy.shadow.lines import compared

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("metric", "candidate - primary", "surely between", "limit", ""):
        table.add_column(name, justify="right" if name not in ("metric", "") else "left")
    for metric in told["metrics"]:
        table.add_row(metric["name"], *compared(metric), metric["standing"])
    return table


def _samples(tally: Tally) -> tuple[Sequence[float], Sequence[float]]:
    return tally.ttft_ms, tally.e2e_ms


def _table(phases: Sequence[Tally]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("")
    for name in _PHASES:
        table.add_column(name, justify="right", min_width=9)

    def counts(title: str, values: Sequence[int], style: str = "") -> None:
        table.add_row(title, *(f"{value:,}" for value in values), style=style)

    errors = [tally.errors for tally in phases]
    counts("requests", [tally.requests for tally in phases])
    counts("errors that clients saw", errors, "bold red" if any(errors) else "bold green")
    for name in PROVIDERS:
        counts(f"  answered by {name}", [tally.answered[name] for tally in phases])
    counts("attempts that failed", [tally.failed.total() for tally in phases])
    for kind in sorted({kind for tally in phases for kind in tally.failed}):
        counts(f"  {kind}", [tally.failed[kind] for tally in phases])
    counts("failovers", [tally.failovers for tally in phases])
    for place, title in enumerate(("TTFT", "E2E")):
        measured = [_samples(tally)[place] for tally in phases]
        counts(f"{title}  n", [len(samples) for samples in measured])
        for q in _QUANTILES:
            table.add_row(f"      p{q * 100:.0f}", *(_time(quantile(samples, q)) for samples in measured))
    return table


def _time(ms: float | None) -> str:
    if ms is None:
        return "–"
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.2f} s"
