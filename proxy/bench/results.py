"""What a run leaves: a folder with its manifest, one line for each request as it came, and the same as Parquet.

`results.jsonl` is only appended to, so a run that was killed goes on where it stopped: a line that is whole counts,
a torn last line does not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import orjson

Json = dict[str, Any]

COLUMNS: dict[str, str] = {
    "task": "the task's name",
    "case": "the case's id",
    "cluster": "cases of one cluster are not independent",
    "group": "who is spoken of, where the task compares groups",
    "weight": "how many requests of the real mix the case stands for",
    "target": "who was asked",
    "repeat": "which repeat, from 0",
    "position": "place in this repeat's order, from 0",
    "cold": "first request to this target: kept out of latency",
    "at": "wall time of the request (ISO 8601, UTC)",
    "lag_ms": "how late the request was sent after it was due",
    "exchange_id": "its record in the store (v_exchanges.id)",
    "outcome": "as in v_exchanges",
    "error_kind": "as in v_exchanges; null where all went well",
    "status": "HTTP status that a client would have seen",
    "attempts": "tries at upstreams, retries and failovers included",
    "throttled": "times it was asked again because of a rate limit",
    "served_by": "the target whose answer it was",
    "provider": "whose answer it was",
    "ttft_ms": "due to first content; null where not streamed",
    "tpot_ms": "(last - first content) / (output tokens - 1)",
    "e2e_ms": "due to end of the answer",
    "max_gap_ms": "largest pause between content chunks",
    "stalls": "pauses that were stalls",
    "input_tokens": "prompt tokens, all classes",
    "cached_tokens": "of these, read from a cache",
    "output_tokens": "answer tokens, all classes",
    "reasoning_tokens": "of these, reasoning",
    "cost_usd": "all attempts together; null where no price is known",
    "finish_reason": "as the provider said",
    "response_model": "the model that the provider says answered",
    "fingerprint": "the provider's system_fingerprint",
    "wire": "hash of the effective parameters that were sent upstream",
    "parameters": "the sampling parameters of it, under one set of names for all dialects",
    "altered": "parameters sent with another value than asked: [asked, sent]",
    "dropped": "parameters that the target did not take",
    "prompt": "hash of the messages",
    "answer": "hash of the answer's text and tool calls",
    "answer_chars": "length of the answer's text",
    "scores": "each scorer's score in [0, 1]; null where it does not apply",
    "score": "the first scorer's",
    "success": "the score reached the task's `success`",
}
"""Name -> meaning of each column, in order."""

LOAD_COLUMNS: dict[str, str] = {
    "target": COLUMNS["target"],
    "phase": "users or rate, in words",
    "users": "users at the time; null in an open load",
    "rate": "arrivals a second; null in a closed load",
    "measured": "false while warming up",
    "due_s": "when the request was due, in seconds since the load began",
    "failed_tries": "tries at upstreams that failed, by kind, whether or not a later one succeeded",
    **{
        name: COLUMNS[name]
        for name in (
            "task", "case", "lag_ms", "exchange_id", "outcome", "error_kind", "status", "attempts", "served_by",
            "ttft_ms", "tpot_ms", "e2e_ms", "max_gap_ms", "stalls", "input_tokens", "output_tokens", "cost_usd",
            "score",
        )
    },
}  # fmt: skip
"""The same for the requests of a load."""


class Run:
    """The folder of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._out: BinaryIO | None = None

    @property
    def manifest(self) -> Json:
        """Raises `FileNotFoundError` where there is no run."""
        whole: Json = orjson.loads((self.folder / "run.json").read_bytes())
        return whole

    def begin(self, manifest: Json) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write("run.json", orjson.dumps(manifest, option=orjson.OPT_INDENT_2))

    def write(self, name: str, content: bytes) -> Path:
        """A file of the run, replaced whole or not at all."""
        path = self.folder / name
        temporary = path.with_name(path.name + ".part")
        temporary.write_bytes(content)
        os.replace(temporary, path)
        return path

    def append(self, row: Json) -> None:
        """One request's result; handed to the system at once, so that a killed run keeps it."""
        if self._out is None:
            self._mend()
            self._out = (self.folder / "results.jsonl").open("ab", buffering=0)
        self._out.write(orjson.dumps(row) + b"\n")

    def close(self) -> None:
        if self._out is not None:
            os.fsync(self._out.fileno())
            self._out.close()
            self._out = None

    def rows(self) -> list[Json]:
        return list(self._lines())

    def _lines(self) -> Iterator[Json]:
        path = self.folder / "results.jsonl"
        if not path.exists():
            return
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield orjson.loads(line)

    def _mend(self) -> None:
        """A torn last line (the run was killed while writing) is cut off; its request is asked again."""
        path = self.folder / "results.jsonl"
        if not path.exists() or not path.stat().st_size:
            return
        raw = path.read_bytes()
        if not raw.endswith(b"\n"):
            with path.open("r+b") as file:
                file.truncate(raw.rfind(b"\n") + 1)

    def parquet(self, columns: Mapping[str, str] = COLUMNS) -> Path:
        """`results.parquet`, one row for each request, with the manifest in its metadata."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        flat = [_flat(row, columns) for row in self._lines() if row.get("kind", "request") == "request"]
        table = pa.Table.from_pylist(flat, schema=_schema(pa, columns))
        table = table.replace_schema_metadata({"weighbridge": orjson.dumps(self.manifest)})
        path = self.folder / "results.parquet"
        temporary = path.with_name(path.name + ".part")
        pq.write_table(table, temporary, compression="zstd")
        os.replace(temporary, path)
        return path


_TYPES = {
    "repeat": "int32", "position": "int32", "throttled": "int32", "status": "int32", "attempts": "int32",
    "stalls": "int32",
    "input_tokens": "int64", "cached_tokens": "int64", "output_tokens": "int64", "reasoning_tokens": "int64",
    "answer_chars": "int64", "cold": "bool_", "success": "bool_", "weight": "float64", "lag_ms": "float64",
    "ttft_ms": "float64", "tpot_ms": "float64", "e2e_ms": "float64", "max_gap_ms": "float64", "cost_usd": "float64",
    "score": "float64", "users": "int32", "rate": "float64", "measured": "bool_", "due_s": "float64",
}  # fmt: skip


def _schema(pa: Any, columns: Mapping[str, str]) -> Any:
    return pa.schema([(name, getattr(pa, _TYPES.get(name, "string"))()) for name in columns])


def _flat(row: Json, columns: Mapping[str, str]) -> Json:
    flat = {name: row.get(name) for name in columns}
    for name in ("scores", "parameters", "altered", "dropped", "failed_tries"):
        if flat.get(name) is not None:
            flat[name] = orjson.dumps(flat[name]).decode()
    return flat


def runs(folder: Path) -> list[Run]:
    """Every run below `folder`, oldest first."""
    found = [Run(path.parent) for path in folder.glob("*/run.json")] if folder.is_dir() else []
    return sorted(found, key=lambda run: str(run.manifest.get("started", "")))


def done(rows: Iterable[Json]) -> set[tuple[str, str, str, int]]:
    """What need not be asked again: (target, task, case, repeat)."""
    return {(row["target"], row["task"], row["case"], row["repeat"]) for row in rows}
