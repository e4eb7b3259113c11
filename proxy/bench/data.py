"""Cases: the rows of a task's data, each made into the messages that are sent. Files are checked whole before use."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from proxy.bench import production
from proxy.bench.suite import Suite, Task
from proxy.config.problems import ConfigError, Problem, did_you_mean

Json = dict[str, Any]

Slices = dict[str, dict[str, float]]
"""Task -> id of a captured request -> how many requests it stands for."""

MOST_CASES = 1_000_000
_FIELD = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_.-]*)\}")


class Case(NamedTuple):
    """One thing to ask, the same for every target."""

    task: str
    id: str
    cluster: str
    """Cases of one cluster are not independent; by default each is its own."""
    messages: list[Json]
    fields: Json
    """The row as it was read: scorers find there what is expected."""
    weight: float
    """How many requests of the real mix it stands for (1 for data from a file)."""
    digest: str
    """SHA-256 of the messages, first 16 hex digits."""
    params: Json
    """Parameters that this case alone is asked with (its `params`)."""
    group: str | None
    """Who is spoken of, where the task compares groups."""


def load(suite: Suite, database: Path | None = None, slices: Slices | None = None) -> list[Case]:
    """The cases of every task, in the order of the suite. Raises `ConfigError` with every problem.

    `database`: where captured requests are. `slices`: the draw of an earlier run (`slices_of`), which is repeated.
    """
    cases: list[Case] = []
    problems: list[Problem] = []
    for name, task in suite.tasks.items():
        source = str(suite.folder / task.data) if isinstance(task.data, str) else f"tasks.{name}"
        try:
            if task.production is not None:
                chosen = (slices or {}).get(name, {})
                rows = production.rows(task.production, database, source, suite.seed, chosen)
            else:
                rows = rows_of(suite.folder / task.data) if isinstance(task.data, str) else list(task.data or ())
        except ConfigError as error:
            problems += error.problems
            continue
        cases += _cases(name, task, rows[: task.limit], source, problems)
    if problems:
        raise ConfigError(problems)
    return cases


def slices_of(suite: Suite, cases: Sequence[Case]) -> Slices:
    """Which captured requests were drawn, and what each stands for; their text stays in the store."""
    drawn: Slices = {name: {} for name, task in suite.tasks.items() if task.production is not None}
    for case in cases:
        if case.task in drawn:
            drawn[case.task][case.id] = case.weight
    return drawn


def digest(cases: Sequence[Case]) -> str:
    """SHA-256 over all cases: two runs with the same one asked the same."""
    whole = hashlib.sha256()
    for case in cases:
        whole.update(orjson.dumps([case.task, case.id, case.messages, case.fields], option=orjson.OPT_SORT_KEYS))
    return whole.hexdigest()


def rows_of(path: Path) -> list[Json]:
    """The rows of a .jsonl, .csv or .parquet file. Raises `ConfigError`."""
    source = str(path)
    suffix = path.suffix.lower()
    if suffix not in (".jsonl", ".ndjson", ".csv", ".parquet"):
        raise ConfigError([Problem(source, "", f"not a known format: {suffix!r}", "name it .jsonl, .csv or .parquet")])
    try:
        raw = path.read_bytes()
    except OSError as error:
        near = (
            did_you_mean(path.name, [entry.name for entry in path.parent.glob("*")]) if path.parent.is_dir() else None
        )
        raise ConfigError([Problem(source, "", f"cannot be read: {error.strerror or error}", near)]) from None
    if suffix == ".parquet":
        return _parquet(raw, source)
    try:
        written = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(source, "", f"not UTF-8 text (byte {error.start})")]) from None
    return _csv(written, source) if suffix == ".csv" else _jsonl(written, source)


def _jsonl(written: str, source: str) -> list[Json]:
    rows, problems = [], []
    for number, line in enumerate(written.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            problems.append(Problem(f"{source}:{number}", "", f"not JSON: {error}"))
            continue
        if not isinstance(row, dict):
            problems.append(Problem(f"{source}:{number}", "", "should be a JSON object, one on each line"))
            continue
        rows.append(row)
    if problems:
        raise ConfigError(problems[:20])
    return rows


def _csv(written: str, source: str) -> list[Json]:
    reader = csv.DictReader(io.StringIO(written, newline=""), strict=True)
    try:
        rows = [dict(row) for row in reader]
    except csv.Error as error:
        raise ConfigError([Problem(f"{source}:{reader.line_num}", "", f"not CSV: {error}")]) from None
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise ConfigError([Problem(source, "", f"row {number} has not as many columns as the first line")])
    return rows


def _parquet(raw: bytes, source: str) -> list[Json]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[Json] = pq.read_table(pa.BufferReader(raw)).to_pylist()
    except pa.ArrowInvalid as error:
        raise ConfigError([Problem(source, "", f"not Parquet: {error}")]) from None
    return rows


def _cases(name: str, task: Task, rows: Sequence[Json], source: str, problems: list[Problem]) -> list[Case]:
    if not rows:
        problems.append(Problem(source, "", f"task {name!r} has no cases"))
    if len(rows) > MOST_CASES:
        problems.append(Problem(source, "", f"more than {MOST_CASES:,} cases"))
        return []
    cases: list[Case] = []
    seen: set[str] = set()
    for number, row in enumerate(rows, 1):
        place = f"row {number}"
        id = str(row.get("id", number))
        if id in seen:
            problems.append(Problem(source, place, f"a second case has the id {id!r}"))
        seen.add(id)
        messages = _messages(task, row, source, place, problems)
        cluster = id
        if task.cluster is not None:
            if task.cluster not in row:
                problems.append(Problem(source, place, f"has no field {task.cluster!r} (`cluster`)"))
            cluster = str(row.get(task.cluster))
        if task.groups is not None and task.groups not in row:
            problems.append(Problem(source, place, f"has no field {task.groups!r} (`groups`)"))
        if task.ask == "text" and "messages" in row:
            problems.append(Problem(source, place, "`ask: text` takes a text, not `messages`"))
        if not isinstance(row.get("params", {}), dict):
            problems.append(Problem(source, place, "`params` should be an object"))
        for scorer in task.scorers:
            if scorer.field is not None and scorer.field not in row:
                hint = did_you_mean(scorer.field, row)
                problems.append(Problem(source, place, f"has no field {scorer.field!r}, which a scorer needs", hint))
        body = orjson.dumps(messages, option=orjson.OPT_SORT_KEYS)
        weight = row.get("weight", 1.0)
        cases.append(
            Case(
                name,
                id,
                f"{name}/{cluster}",
                messages,
                row,
                float(weight) if isinstance(weight, int | float) and weight > 0 else 1.0,
                hashlib.sha256(body).hexdigest()[:16],
                row.get("params", {}),
                str(row.get(task.groups)) if task.groups is not None else None,
            )
        )
        if len(problems) >= 20:
            break
    return cases


def _messages(task: Task, row: Json, source: str, place: str, problems: list[Problem]) -> list[Json]:
    """The row's own `messages`, or what the template makes of its fields."""
    given = row.get("messages")
    if given is not None:
        if not isinstance(given, list) or not all(isinstance(one, dict) and "role" in one for one in given):
            problems.append(Problem(source, place, "`messages` should be a list of messages, each with a `role`"))
            return []
        return given
    made: list[Json] = []
    for role, template in (("system", task.template.system), ("user", task.template.user)):
        if template is not None:
            text = _filled(template, row, source, place, problems)
            made.append({"role": role, "content": text})
    return made


def _filled(template: str, row: Json, source: str, place: str, problems: list[Problem]) -> str:
    def put(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        if match[1] not in row:
            problems.append(
                Problem(
                    source, place, f"has no field {match[1]!r}, which the template names", did_you_mean(match[1], row)
                )
            )
            return ""
        value = row[match[1]]
        return value if isinstance(value, str) else orjson.dumps(value).decode()

    return _FIELD.sub(put, template)
