"""Texts of both arms are kept exactly where `capture` asks for it, and the report shows them beside each other."""

from __future__ import annotations

import asyncio
import html
from pathlib import Path
from typing import Any

import pytest

from proxy.measure.store.ledger import Ledger
from proxy.shadow.lines import as_lines
from proxy.shadow.page import as_html
from proxy.shadow.report import report
from tests.shadow.rig import Rig, config, experiment, rig
from tests.shadow.scripted import INVALID, REFUSAL, VALID, Model, Scripted

JSON = {"response_format": {"type": "json_object"}}


@pytest.mark.parametrize("capture", ["none", "redacted"])
@pytest.mark.parametrize("stream", [False, True])
def test_the_worst_pairs_texts(tmp_path: Path, capture: str, stream: bool) -> None:
    async def test() -> None:
        models = {"primary": Model(valid=1.0), "broken": Model(valid=0.0), "refusing": Model(refuses=True)}
        async with Scripted(models).serving() as there:
            shadow = {
                "x": experiment("broken", primary="validity"),
                # A changed prompt is asked as a chat.
                "y": experiment(primary="validity") | {"candidate": {"target": "local/refusing", "suffix": "!"}},
            }
            more = {"capture": {"bodies": capture}} if capture != "none" else {}
            async with rig(config(tmp_path, there.url, shadow, **more)) as proxy:
                await proxy.ask("Mail me \x1b[31m at me@example.org", stream=stream, **JSON)
                await proxy.idle()
                await _seen_by_raters(proxy, tmp_path, capture != "none")
        ledger = Ledger(tmp_path / "exchanges.db")
        for name, said in (("x", INVALID), ("y", REFUSAL)):
            told = report(ledger, name, "2026-11-01")
            assert told is not None
            (one,) = told["worst"]
            page, lines = html.unescape(as_html(told).decode()), "\n".join(as_lines(told))
            if capture == "none":
                assert _texts(one) == (None, None, None)
                assert one["no_text"] in page
                assert one["no_text"] in lines
                continue
            assert one["no_text"] is None
            asked, primary, candidate = _texts(one)
            assert "[e-mail]" in asked, "redacted as the live one"
            assert "example.org" not in page
            assert (primary, candidate) == (VALID, said.strip())
            assert said.strip() in page
            assert said.strip() in lines
            assert "\x1b" not in lines, "a text does not steer the terminal"
        assert len(ledger.rows("SELECT 1 FROM bodies")) == (3 if capture != "none" else 0)
        with ledger._open() as connection:
            connection.execute("UPDATE bodies SET expires = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 second')")
        late = report(ledger, "x", "2026-11-01")
        assert late is not None
        assert _texts(late["worst"][0]) == (None, None, None), "what has expired is not shown, though it is still there"

    asyncio.run(test())


async def _seen_by_raters(proxy: Rig, folder: Path, kept: bool) -> None:
    """Both answers of a pair, by the ids that `v_shadow_pairs` has."""
    assert proxy.app.store is not None
    await asyncio.to_thread(proxy.app.store.flush)
    await proxy.app.mirror._write()
    ledger = Ledger(folder / "exchanges.db")
    (pair,) = ledger.rows("SELECT live_id, shadow_id FROM v_shadow_pairs WHERE experiment = 'x'")
    for id in pair.values():
        if kept:
            await proxy.until(lambda id=id: bool(ledger.rows("SELECT 1 FROM bodies WHERE id = ?", (id,))))  # type: ignore[misc]
        told = (await proxy.client.get(f"/api/exchanges/{id}")).json()
        assert (told["bodies"] is not None) == kept
        assert not kept or "city" in told["bodies"]["answer"]


def _texts(one: dict[str, Any]) -> tuple[Any, Any, Any]:
    return tuple(one[name].strip() if one[name] else None for name in ("asked", "primary", "candidate"))  # type: ignore[return-value]
