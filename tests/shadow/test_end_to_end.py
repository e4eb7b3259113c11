"""A real proxy over real sockets, between a scripted primary and candidates of known quality: the right verdict for
each, within the number of units that the plan foretells; and the accounting adds up."""

from __future__ import annotations

import asyncio
import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from policies import evidence
from proxy.measure.store.ledger import Ledger
from proxy.shadow.lines import as_lines
from proxy.shadow.page import as_html, as_json
from proxy.shadow.report import report
from proxy.shadow.standing import tally_of
from tests import processes
from tests.shadow.scripted import Model, Scripted

UNITS = 700
UNITS_RARE = 2200
"""For an error in thirty answers, which takes longer to be seen."""
JSON = {"type": "json_object"}
PRICES = {"input": "1 USD", "output": "10 USD"}
CANDIDATES = {
    "equal": Model(valid=0.95),
    "better": Model(valid=1.0),
    "worse": Model(valid=0.75),
    "slow": Model(valid=0.95, ttft=0.4),
    "costly": Model(valid=0.95, tokens=40),
    "erring": Model(valid=0.95, errors=0.03),
    "refusing": Model(refuses=True),
    "empty": Model(empty=True),
    "broken": Model(valid=0.0),
}
VERDICTS = {
    "equal": ("promote", "equivalent"),
    "better": ("promote", None),
    "worse": ("reject", "validity"),
    "slow": ("reject", "ttft"),
    "costly": ("reject", "cost"),
    "erring": ("reject", "errors"),
    "refusing": ("reject", "validity"),
    "empty": ("reject", "errors"),
    "broken": ("reject", "validity"),
}
FORETOLD = {
    "equal": evidence.plan(0.31, 0.1, metrics=4),
    "better": evidence.plan(0.22, 0.1, metrics=4),
    "worse": evidence.plan(0.48, 0.1, metrics=4),
    "erring": evidence.plan(0.17, 0.02, metrics=4),
}
"""By the spread of a difference and its distance from the margin; for all others the least that there is."""


def config(url: str, shadow: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "providers": {"local": {"base_url": url, "api_key": None}},
        "routes": {"chat": {"targets": ["local/primary"]}},
        "prices": {"local/*": PRICES},
        "shadow": shadow,
        **more,
    }


def experiment(candidate: str, **more: Any) -> dict[str, Any]:
    """The loop's lateness and the live side's load are the test machine's, not the experiment's."""
    return {
        "route": "chat",
        "candidate": f"local/{candidate}",
        "rate": 1.0,
        "late_above": "10m",
        "cpu_above": 100,
        "busy_above": 10_000,
    } | more


async def send(
    client: httpx.AsyncClient, number: int, *, stream: bool = False, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    body: dict[str, Any] = {
        "model": "chat",
        "messages": [{"role": "user", "content": f"Where is the Bundeshaus? ({number})"}],
        "response_format": JSON,
        "max_tokens": 100,
    }
    if stream:
        body["stream"] = True
    return await client.post("/v1/chat/completions", json=body, headers=headers)


async def settled(client: httpx.AsyncClient, done: Any) -> dict[str, Any]:
    """The experiments by name, as soon as `done(them)`; the limit only ends a hung test."""
    async with asyncio.timeout(60):
        while True:
            found = (await client.get("/api/shadow")).json()
            by_name = {one["name"]: one for one in found["experiments"]}
            if done(by_name):
                return by_name
            await asyncio.sleep(0.1)


def adds_up(accounting: Mapping[str, Any]) -> bool:
    dropped = sum(accounting["dropped"].values())
    return (
        accounting["eligible"] == accounting["sampled"] + accounting["unsampled"]
        and accounting["sampled"] == accounting["completed"] + accounting["failed"] + dropped + accounting["under_way"]
    )


def test_the_right_verdict_for_each(tmp_path: Path) -> None:
    asyncio.run(_the_right_verdict_for_each(tmp_path))


async def _the_right_verdict_for_each(folder: Path) -> None:
    primary = {"primary": Model(valid=0.95)}
    shadow = {
        name: experiment(
            name,
            primary={"kind": "validity", "margin": 0.1},
            guardrails=[
                {"kind": "errors", "margin": 0.01 if name == "erring" else 0.06},
                {"kind": "ttft", "slo": "200ms" if name == "slow" else "30s", "margin": 0.3},
                {"kind": "cost", "margin": 0.3},
            ],
            max_units=UNITS_RARE if name == "erring" else UNITS,
        )
        for name in CANDIDATES
    }
    async with Scripted({**primary, **CANDIDATES}).serving() as there:
        with processes.proxy(config(there.url, shadow), folder) as proxy:
            async with httpx.AsyncClient(base_url=proxy.base_url, timeout=60) as client:
                for start in range(0, UNITS_RARE, 4):
                    answers = await asyncio.gather(*[send(client, start + n, stream=n % 2 == 0) for n in range(4)])
                    assert {answer.status_code for answer in answers} == {200}
                    found = await settled(client, lambda by: all(one["waiting"] < 40 for one in by.values()))
                    if all(one["state"] != "running" for one in found.values()):
                        break
                found = await settled(
                    client, lambda by: all(one["accounting"]["under_way"] == 0 for one in by.values())
                )
    for name, (state, why) in VERDICTS.items():
        one = found[name]
        assert (name, one["state"], one["why"]) == (name, state, one["why"])
        assert why is None or why in (one["label"] or one["why"]), one
        assert adds_up(one["accounting"]), one
        assert not {"queue", "busy", "fault", "incompatible"} & {
            k for k, v in one["accounting"]["dropped"].items() if v
        }
        assert one["units"] <= FORETOLD.get(name, evidence.plan(0.0, 0.1, metrics=4)).most, one
    stored = processes.rows(
        folder, "SELECT experiment, count(*) AS n, sum(scored) AS units FROM v_shadow_pairs GROUP BY 1"
    )
    for row in stored:
        accounting = found[row["experiment"]]["accounting"]
        assert row["n"] == accounting["completed"] + accounting["failed"]
        assert row["units"] == found[row["experiment"]]["units"]
    _recomputed_from_sql(folder, found)
    _reported(folder, found)


def _reported(folder: Path, found: Mapping[str, Any]) -> None:
    """The command line says the same, from the store alone."""
    ledger = Ledger(folder / "exchanges.db")
    for name, one in found.items():
        told = report(ledger, name, "2026-01-01")
        assert told is not None
        assert (told["state"], told["label"], told["units"]) == (one["state"], one["label"], one["units"])
        assert told["accounting"] == one["accounting"]
        assert [metric["estimate"] for metric in told["metrics"]] == [metric["estimate"] for metric in one["metrics"]]
        page = as_html(told).decode()
        assert told["next"] in html.unescape(page)
        assert page.count("<svg") >= 6
        assert "http://" not in page.replace("http://www.w3.org", "")
        assert told["candidate"] in "\n".join(as_lines(told))
        assert json.loads(as_json(told))["name"] == name


STORE_MD = Path(__file__).parents[2] / "docs" / "store.md"


def _recomputed_from_sql(folder: Path, found: Mapping[str, Any]) -> None:
    """The query in the documentation, which knows nothing but the store, comes to the same verdicts."""
    query = STORE_MD.read_text().split("```sql verdict\n", 1)[1].split("```", 1)[0]
    ledger = Ledger(folder / "exchanges.db")
    for name, one in found.items():
        rows = ledger.rows(query, {"name": name})
        standing = {row["metric"]: "harmed" if row["harmed"] else "shown" if row["shown"] else "open" for row in rows}
        for metric in one["metrics"]:
            enough = not metric["is_ratio"] or metric["n"] >= 100
            assert standing.get(metric["name"]) == (metric["standing"] if enough else None), (name, metric)
        for row in rows:
            if row["ln_e_above"] is not None:
                counts = tally_of(ledger.restore(name, one["version"], "2026-01-01")).counts[row["metric"]]
                margin = -next(metric["bound"] for metric in one["metrics"] if metric["name"] == row["metric"])
                assert row["ln_e_above"] == pytest.approx(evidence.log_above(counts, -margin))
                assert row["ln_e_below"] == pytest.approx(evidence.log_below(counts, -margin))
        by_lead = sorted(rows, key=lambda row: -row["lead"])
        harmed = any(row["harmed"] for row in rows)
        promoted = by_lead[0]["units"] >= 100 and all(row["shown"] for row in rows)
        assert ("reject" if harmed else "promote" if promoted else None) == one["state"], (name, rows)
    verdicts = processes.rows(folder, "SELECT experiment, detail FROM shadow_events WHERE event = 'verdict'")
    assert {row["experiment"]: json.loads(row["detail"])["state"] for row in verdicts} == {
        name: one["state"] for name, one in found.items()
    }
