"""`python -m tests.replay.requests FOLDER`: recorded requests in OpenAI's form, put into every dialect and judged.

Each is built for one model of each dialect and given to the oracle of that provider (`oracles.py`). A request that
the dialect refuses with a 400 that names the parameter is counted apart: some things cannot be said everywhere. Ends
with status 1 if a request was built wrongly.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from proxy.assemble import DIALECTS
from proxy.errors import Refusal
from proxy.providers.base import Endpoint
from proxy.providers.catalog import CATALOG
from proxy.wire.chat import ChatRequest
from tests.replay.oracles import ORACLES, PACKAGES
from tests.replay.recording import read

MODELS = {
    "openai": "gpt-5.4-mini",
    "azure": "gpt-4.1-mini",
    "anthropic": "claude-sonnet-4-5",
    "gemini": "gemini-2.5-flash",
    "vertex": "gemini-2.5-flash",
    "bedrock": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "cohere": "command-a-03-2025",
    "mistral": "mistral-large-latest",
}
"""One model of each dialect; its name decides what is left out or renamed."""


class Outcome(NamedTuple):
    dialect: str
    mark: str
    """`accepted`, `refused` or `failed`."""
    reason: str = ""


def endpoint(dialect: str) -> Endpoint:
    row = CATALOG.get(dialect)
    facts = row._asdict() if row is not None else {}
    known = {name: value for name, value in facts.items() if name in Endpoint._fields}
    known["base_url"] = known.get("base_url") or "http://127.0.0.1:1"
    return Endpoint(**{**known, "provider": dialect, "model": MODELS[dialect]})


def present(dialect: str) -> bool:
    """The dialect is there, and the package that judges it is installed."""
    package = PACKAGES[dialect]
    try:
        return dialect in DIALECTS and importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def build(body: dict[str, Any], dialect: str) -> dict[str, Any]:
    """One OpenAI request as it is sent in a dialect. Raises `Refusal`."""
    ask = ChatRequest.parse(json.dumps({**body, "model": body.get("model") or "model"}).encode())
    sent: dict[str, Any] = json.loads(DIALECTS[dialect].build(ask, endpoint(dialect)).body)
    return sent


def built(body: dict[str, Any], dialect: str) -> dict[str, Any] | None:
    """The same; None where it is refused."""
    try:
        return build(body, dialect)
    except Refusal:
        return None


def put(body: dict[str, Any], dialect: str) -> Outcome:
    """One OpenAI request in one dialect. The request itself must be sound."""
    try:
        sent = build(body, dialect)
    except Refusal as refusal:
        if refusal.status != 400 or not refusal.param:
            return Outcome(dialect, "failed", f"refused without a parameter: {refusal.status} {refusal.message}")
        return Outcome(dialect, "refused", f"{refusal.param}: {refusal.message}")
    except Exception as error:
        return Outcome(dialect, "failed", f"fell over: {error!r}")
    reasons = list(ORACLES[dialect](sent))
    return Outcome(dialect, "failed" if reasons else "accepted", "; ".join(reasons))


def asked(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(id, body) of each recorded chat request, members of other providers included: apps send those too."""
    for recording in read(folder):
        if recording.api == "chat" and recording.request.get("messages"):
            yield recording.id, recording.request


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.replay.requests", description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder of *.jsonl files, or one such file")
    parser.add_argument("--dialect", choices=sorted(ORACLES), help="only this one")
    folder, only = (options := parser.parse_args(argv)).folder, options.dialect
    dialects = [name for name in ORACLES if only in (None, name)]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    told = []
    for id, body in asked(folder):
        sound = not list(ORACLES["openai"](body))
        for dialect in filter(present, dialects):
            if not sound and ORACLES[dialect] is ORACLES["openai"]:
                continue  # passed on as it came: its faults are the app's own
            outcome = put(body, dialect)
            counts[dialect][outcome.mark] += 1
            if outcome.reason:
                told.append(f"{outcome.mark:8}  {dialect:9}  {id}: {outcome.reason[:300]}")
    for dialect in dialects:
        if not present(dialect):
            print(f"{dialect:9}  not there (the dialect, or the package {PACKAGES[dialect]})")
            continue
        marks = counts[dialect]
        print(f"{dialect:9}  {marks['accepted']}/{marks.total()} accepted, {marks['refused']} refused")
    print("\n".join(sorted(told)))
    return 1 if any(marks["failed"] for marks in counts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
