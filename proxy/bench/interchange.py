"""Results of other harnesses as evidence beside our own, and ours for others to read.

Read: sample logs of lm-evaluation-harness (`samples_*.jsonl`, written by `--log_samples`) and logs of inspect_ai
(`.json`, and `.eval`, a zip of JSON files). Written: a JSONL of events as OpenAI's evals records them.

What such logs do not hold (first content, gaps, attempts, cost) stays unknown; nothing is made up.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from proxy.bench.results import COLUMNS
from proxy.config.problems import ConfigError, Problem

Json = dict[str, Any]

_LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
"""inspect_ai's values: correct, incorrect, partial, no answer."""


def read(path: Path, target: str | None = None) -> list[Json]:
    """Rows as a run has them. `target` names the model where the log does not. Raises `ConfigError`."""
    source = str(path)
    try:
        if path.suffix == ".eval":
            return _inspect(_archive(path), source, target)
        raw = path.read_bytes()
        if path.suffix == ".json":
            return _inspect(orjson.loads(raw), source, target)
        if path.suffix == ".jsonl":
            lines = [orjson.loads(line) for line in raw.splitlines() if line.strip()]
            return _harness(lines, path, target)
    except (OSError, zipfile.BadZipFile) as error:
        raise ConfigError([Problem(source, "", f"cannot be read: {error}")]) from None
    except orjson.JSONDecodeError as error:
        raise ConfigError([Problem(source, "", f"not JSON: {error}")]) from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError([Problem(source, "", f"not a log that is known here: {error!r}")]) from None
    raise ConfigError(
        [Problem(source, "", "not a log that is known here", "samples_*.jsonl of lm-eval; .json or .eval of inspect")]
    )


def _harness(lines: Sequence[Json], path: Path, target: str | None) -> list[Json]:
    """lm-evaluation-harness: one line for each document and filter; the metric's name is in `metrics`."""
    if target is None:
        raise ConfigError([Problem(str(path), "", "these logs do not name the model", "say it with --target")])
    task = path.stem.removeprefix("samples_").rpartition("_")[0] or path.stem
    rows: list[Json] = []
    seen: dict[tuple[str, str], int] = {}
    for line in lines:
        name = line["metrics"][0]
        score = _number(line[name])
        name = name if line.get("filter", "none") == "none" else f"{name}/{line['filter']}"
        key = (str(line["doc_id"]), name)
        repeat = seen[key] = seen.get(key, -1) + 1
        answer = line.get("filtered_resps") or line.get("resps") or [""]
        rows.append(_row(task, key[0], target, repeat, {name: score}, answer[0], line.get("prompt_hash")))
    return rows


def _archive(path: Path) -> Json:
    with zipfile.ZipFile(path) as archive:
        header = orjson.loads(archive.read("header.json"))
        names = sorted(name for name in archive.namelist() if name.startswith("samples/") and name.endswith(".json"))
        return {**header, "samples": [orjson.loads(archive.read(name)) for name in names]}


def _inspect(whole: Json, source: str, target: str | None) -> list[Json]:
    told = whole["eval"]
    model = target or told["model"]
    rows = []
    for sample in whole.get("samples") or ():
        scores = {name: _inspected(score["value"]) for name, score in (sample.get("scores") or {}).items()}
        output = sample.get("output") or {}
        text = output.get("completion") or ""
        row = _row(str(told["task"]), str(sample["id"]), model, int(sample.get("epoch", 1)) - 1, scores, text, None)
        usage = list((sample.get("model_usage") or {}).values())
        if usage:
            row["input_tokens"] = sum(one.get("input_tokens", 0) for one in usage)
            row["output_tokens"] = sum(one.get("output_tokens", 0) for one in usage)
        if sample.get("error"):
            row |= {"outcome": "upstream_error", "error_kind": "imported", "score": 0.0, "success": False}
        rows.append(row)
    if not rows:
        raise ConfigError([Problem(source, "", "the log holds no samples", "write it with its samples")])
    return rows


def _inspected(value: object) -> float | None:
    if isinstance(value, str):
        return _LETTERS.get(value)
    return _number(value)


def _number(value: object) -> float | None:
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, int | float) and 0 <= value <= 1:
        return float(value)
    return None


def _row(
    task: str, case: str, target: str, repeat: int, scores: Mapping[str, float | None], answer: object, prompt: object
) -> Json:
    text = answer if isinstance(answer, str) else orjson.dumps(answer).decode()
    score = next(iter(scores.values()), None)
    filled: Json = dict.fromkeys(COLUMNS)
    return filled | {
        "task": task, "case": case, "cluster": f"{task}/{case}", "weight": 1.0, "target": target, "repeat": repeat,
        "position": 0, "cold": False, "outcome": "ok", "attempts": 0, "throttled": 0, "dropped": [],
        "prompt": prompt if isinstance(prompt, str) else None,
        "answer": hashlib.sha256(text.encode()).hexdigest()[:16], "answer_chars": len(text), "scores": dict(scores),
        "score": score, "success": score is not None and score >= 1.0,
    }  # fmt: skip


def suite_of(name: str, rows: Sequence[Json]) -> Json:
    """A suite that fits imported rows, for reports and comparisons; it cannot be run."""
    kinds: dict[str, list[str]] = {}
    for row in rows:
        kinds.setdefault(row["task"], list(row["scores"]) or ["errors"])
    return {
        "name": name,
        "targets": list(dict.fromkeys(row["target"] for row in rows)),
        "tasks": {task: {"data": [{}], "scorers": [kind[0]]} for task, kind in kinds.items()},
        "weights": {"accuracy": 1},
        "gates": {"accuracy": {"margin": 0.03}},
    }


def exported(rows: Iterable[Json], run: str) -> Iterable[bytes]:
    """Lines of events as OpenAI's evals writes them: a `match` for each request, and a final report for each target."""
    results: dict[str, list[float]] = {}
    for number, row in enumerate(rows):
        score = row["score"] or 0.0
        results.setdefault(row["target"], []).append(score)
        yield orjson.dumps(
            {
                "run_id": run,
                "event_id": number,
                "sample_id": f"{row['task']}.{row['case']}",
                "type": "match",
                "data": {
                    "correct": bool(row["success"]), "score": score, "scores": row["scores"], "target": row["target"],
                    "repeat": row["repeat"], "picked": row.get("text"),
                },
                "created_by": "weighbridge",
                "created_at": row["at"],
            }
        )  # fmt: skip
    for target, scores in results.items():
        yield orjson.dumps(
            {"final_report": {"target": target, "accuracy": sum(scores) / len(scores), "n": len(scores)}}
        )
