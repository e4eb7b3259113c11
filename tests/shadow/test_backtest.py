"""`weighbridge backtest` on the records of a real route that draws among its targets."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from proxy.cli import main
from proxy.measure.store.ledger import Ledger
from tests.shadow.rig import config, experiment, rig
from tests.shadow.scripted import Model, Scripted

WEIGHTED = {"policy": "weighted", "targets": [{"target": "local/dear", "weight": 3}, "local/cheap"]}
ORDERED = {"targets": ["local/dear", "local/cheap"]}


def _rate(ledger: Ledger) -> None:
    for number, row in enumerate(ledger.rows("SELECT id, target FROM v_exchanges WHERE route = 'chat'")):
        if number % 2:
            assert ledger.feedback("2026-11-01", row["id"], "feedback", 0.9 if "dear" in row["target"] else 0.4, None)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dear target's answers cost 420 millionths each, the cheap one's 120."""
    folder = tmp_path_factory.mktemp("backtest")

    async def fill() -> None:
        models = {"dear": Model(valid=1.0, tokens=40), "cheap": Model(valid=1.0, tokens=10)}
        async with Scripted(models).serving() as there:
            routes = {"chat": WEIGHTED, "fixed": ORDERED, "mirrored": ORDERED}
            shadow = {"x": experiment("cheap", route="mirrored")}
            told = config(folder, there.url, shadow, routes=routes)
            async with rig(told) as proxy:
                for number in range(400):
                    assert (await proxy.ask(f"parcel {number}")).status_code == 200
                for number in range(40):
                    assert (await proxy.ask(f"number {number}", model="fixed")).status_code == 200
                for number in range(50):
                    assert (await proxy.ask(f"number {number}", model="mirrored")).status_code == 200
                await proxy.idle()
        _rate(Ledger(folder / "exchanges.db"))

    asyncio.run(fill())
    return folder / "exchanges.db"


def run(store: Path, route: str, *more: str) -> int:
    return main(["backtest", "--route", route, *more, "--store", str(store)])


@pytest.fixture
def config_file(tmp_path: Path) -> list[str]:
    """What backtest needs to know of the targets: weights and prices."""
    told = {
        "providers": {"local": {"base_url": "http://127.0.0.1:9/v1", "api_key": None}},
        "routes": {"chat": WEIGHTED, "fixed": ORDERED, "mirrored": ORDERED},
        "prices": {
            "local/dear": {"input": "3 USD", "output": "10 USD"},
            "local/cheap": {"input": "1 USD", "output": "10 USD"},
        },
    }
    path = tmp_path / "weighbridge.json"
    path.write_text(json.dumps(told))
    return ["--config", str(path)]


def figures(out: str, name: str) -> list[float]:
    line = next(line for line in out.splitlines() if line.startswith(name))
    return [float(one) for one in re.findall(r"-?[\d.]+", line.replace(",", ""))]


DEAR, CHEAP = 420e-6, 120e-6


def test_other_shares(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(store, "chat", "--shares", "local/dear=50,local/cheap=50") == 0
    out = capsys.readouterr().out
    assert "local/dear 50.0%, local/cheap 50.0%" in out or "local/cheap 50.0%, local/dear 50.0%" in out
    as_served, sn, sn_low, sn_high, dr, dr_low, dr_high, ips, ips_low, ips_high, n, units, worth = figures(out, "cost")
    truth = (DEAR + CHEAP) / 2
    assert as_served > truth
    assert sn_low <= truth <= sn_high
    assert ips_low <= truth <= ips_high
    assert sn_low <= sn <= sn_high
    assert ips_low <= ips <= ips_high
    assert (dr, dr_low, dr_high) == pytest.approx((truth, truth, truth), abs=2e-5)
    assert (n, units) == (400, 400)
    assert 200 < worth < 400


def test_another_policy(store: Path, config_file: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A policy is asked itself: by the prices of the config, by rules, or as the config has it."""
    rules = "{kind: conditional, rules: [{when: {tokens: '>100'}, use: [local/dear]}], otherwise: %s}"
    for policy, truth in (
        ("cheapest", CHEAP),
        ("ordered", DEAR),
        ("round_robin", (DEAR + CHEAP) / 2),
        (rules % "cheapest", CHEAP),
        ("{kind: conditional, rules: [{use: [local/dear]}]}", DEAR),
    ):
        assert run(store, "chat", "--policy", policy, *config_file) == 0, policy
        _, sn, _, _, dr, _, _, _, low, high, *_ = figures(capsys.readouterr().out, "cost")
        assert (sn, dr) == pytest.approx((truth, truth), abs=2e-5), policy
        assert low <= truth <= high, policy
    assert run(store, "chat", *config_file, "--format", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["policy"] == "weighted"
    cost = told["figures"]["cost_usd"]
    assert cost["self_normalised"][0] == pytest.approx(cost["as_served"])
    assert cost["effective"] == pytest.approx(400)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("fastest", "fastest looks at each target's"),
        ("least_loaded", "least_loaded looks at each target's `outstanding`"),
        ("{kind: conditional, rules: [{when: {tools: true}, use: [local/dear]}]}", "a request's `tools`"),
        ("{kind: conditional, rules: [{use: [local/other]}]}", "would have asked no target at all"),
        ("nothing", "unknown policy 'nothing'"),
        ("{kind: weighted, sed: x}", "sed: unknown setting"),
    ],
)
def test_what_the_records_do_not_hold(
    store: Path, config_file: list[str], policy: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(store, "chat", "--policy", policy, *config_file) == 2
    assert words in capsys.readouterr().err


def test_what_the_records_cannot_tell(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for route, shares, words in (
        ("chat", "local/other=1", "no request ever went to local/other"),
        ("fixed", "local/dear=50,local/cheap=50", "no request ever went to local/cheap"),
        ("nowhere", "local/dear=1", "no request of the route 'nowhere'"),
        ("chat", "local/dear", "not target=share"),
    ):
        assert run(store, route, "--shares", shares) == 2
        assert words in capsys.readouterr().err


def test_mirrored_requests_tell_what_no_chance_was_taken_for(
    store: Path, config_file: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The route is deterministic, but a shadow experiment asked the other target, too."""
    for more in (["--shares", "local/cheap=1"], ["--policy", "cheapest", *config_file]):
        assert run(store, "mirrored", *more) == 0
        out = capsys.readouterr().out
        assert "from shadow pairs" in out
        as_served, both, low, high, n, units, _ = figures(out, "cost")
        assert (as_served, both, low, high) == pytest.approx((DEAR, CHEAP, CHEAP, CHEAP), abs=1e-6)
        assert (n, units) == (50, 50)
    assert run(store, "mirrored", "--shares", "local/other=1") == 2
    assert "nor can shadow pairs" in capsys.readouterr().err


def test_feedback_is_estimated_where_it_was_given(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half of the answers were rated: those of the dear target with 0.9, the cheap one's with 0.4."""
    assert run(store, "chat", "--shares", "local/dear=50,local/cheap=50") == 0
    _, _, low, high, *_, n, _, _ = figures(capsys.readouterr().out, "feedback")
    assert low <= 0.65 <= high
    assert n == 200
