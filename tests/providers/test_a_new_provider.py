"""A new OpenAI-compatible provider is one row and no code: done here, and asked for everything."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from random import Random

from proxy.assemble import front
from proxy.clock import RealClock
from proxy.config import parse
from proxy.conformance import CELLS, PASS, Row, row
from proxy.engine import Engine
from proxy.measure.bus import Bus
from proxy.providers import catalog
from proxy.providers.catalog import CATALOG
from proxy.providers.quirks import Quirks
from proxy.simulated import Simulated
from proxy.transport.choose import Transports

KEY = "sk-newco-0123456789"


async def _asked(catalogued: bool) -> tuple[Row, list[dict[str, object]]]:
    async with Simulated(tokens=3, api_key=KEY, models=["m"], refused=["seed", "max_completion_tokens"]) as server:
        if catalogued:
            quirks = Quirks(drop=frozenset({"seed"}), rename=(("max_completion_tokens", "max_tokens"),))
            CATALOG["newco"] = catalog.Row(server.base_url, ("NEWCO_API_KEY",), quirks=quirks)
        section = {} if catalogued else {"dialect": "openai", "base_url": server.base_url, "api_key": KEY}
        config = json.dumps({"providers": {"newco": section}, "defaults": {"params": {"seed": 7}}})
        loaded = parse(config, source="test", format="json", env={"NEWCO_API_KEY": KEY})
        transports = Transports()
        try:
            router = front(loaded, transports.for_provider, Random(0)).router
            [target] = router.find("newco/m", True).targets
            found = await row(Engine(RealClock(), Bus({}), Random(0)), target)
        finally:
            await transports.aclose()
        return found, [request.json for request in server.requests if isinstance(request.json, dict)]


def test_a_row_is_enough() -> None:
    try:
        found, requests = asyncio.run(_asked(catalogued=True))
    finally:
        CATALOG.pop("newco", None)
    assert [cell.result for cell in found.cells] == [PASS] * len(CELLS), found
    assert all("seed" not in one and "max_completion_tokens" not in one for one in requests)


def test_without_its_row_it_is_refused_what_it_does_not_take() -> None:
    found, _ = asyncio.run(_asked(catalogued=False))
    assert PASS not in [cell.result for cell in found.cells if cell.name != "errors"]


def test_the_page_names_every_row() -> None:
    page = (Path(__file__).parents[2] / "docs" / "add-a-provider.md").read_text(encoding="utf-8")
    named = page[page.index("## How the rows were checked") :].replace("`", " ").split()
    assert set(CATALOG) <= set(named)
