"""`weighbridge backtest` on the records of a real route that draws among its targets."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from proxy.cli import main
from tests.shadow.rig import config, rig
from tests.shadow.scripted import Model, Scripted

WEIGHTED = {"policy": "weighted", "targets": [{"target": "local/dear", "weight": 3}, "local/cheap"]}
ORDERED = {"targets": ["local/dear", "local/cheap"]}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 answers: the dear target costs 420 millionths each, the cheap one 120."""
    folder = tmp_path_factory.mktemp("backtest")

    async def fill() -> None:
        models = {"dear": Model(valid=1.0, tokens=40), "cheap": Model(valid=1.0, tokens=10)}
        async with Scripted(models).serving() as there:
            told = config(folder, there.url, {}, routes={"chat": WEIGHTED, "fixed": ORDERED})
            async with rig(told) as proxy:
                for number in range(400):
                    assert (await proxy.ask(f"parcel {number}")).status_code == 200
                for number in range(40):
                    assert (await proxy.ask(f"number {number}", model="fixed")).status_code == 200

    asyncio.run(fill())
    return folder / "exchanges.db"


def run(store: Path, route: str, shares: str) -> int:
    return main(["backtest", "--route", route, "--shares", shares, "--store", str(store)])


def test_other_shares(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(store, "chat", "local/dear=50,local/cheap=50") == 0
    cost = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("cost_usd"))
    numbers = [float(one) for one in re.findall(r"\$([\d.]+)", cost)]
    as_served, (sn, sn_low, sn_high), (dr, dr_low, dr_high) = numbers[0], numbers[1:4], numbers[4:7]
    truth = (420e-6 + 120e-6) / 2
    assert as_served > truth
    assert sn_low <= truth <= sn_high
    assert sn_low <= sn <= sn_high
    assert (dr, dr_low, dr_high) == pytest.approx((truth, truth, truth), abs=2e-5)


def test_what_the_records_cannot_tell(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for route, shares, words in (
        ("chat", "local/other=1", "no request ever went to local/other"),
        ("fixed", "local/dear=50,local/cheap=50", "no request ever went to local/cheap"),
        ("nowhere", "local/dear=1", "no request of the route 'nowhere'"),
        ("chat", "local/dear", "not target=share"),
    ):
        assert run(store, route, shares) == 2
        assert words in capsys.readouterr().err
