"""File or environment -> validated `Config`, or every problem at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from proxy.config.explain import bare, is_not_text, problem
from proxy.config.known import Reading, aws_region, fill_providers, key_variable
from proxy.config.model import Config
from proxy.config.problems import ConfigError, Problem, did_you_mean, path_text
from proxy.config.references import findings, mapping, targets
from proxy.config.resolve import notes, resolved
from proxy.config.source import FORMATS, MOST_BYTES, Format, Tree, read, too_large
from proxy.providers.catalog import CATALOG, DIALECTS

_RECORDS = ("storage", "retention")
FILES = ("weighbridge.yaml", "weighbridge.yml", "weighbridge.json", "weighbridge.toml")


def find(path: str | Path | None, env: Mapping[str, str] = os.environ) -> Config:
    """The config a command runs with: the file named, else the one in the current folder, else the environment's.

    Raises `ConfigError`.
    """
    if path is not None:
        return load(path, env)
    for name in FILES:
        if Path(name).exists():
            return load(name, env)
    return from_environment(env)


def find_records(path: str | Path | None, env: Mapping[str, str] = os.environ) -> Config:
    """Where records are and how long they are kept; of the rest nothing.

    Who reads records needs no keys and no policy's module, and may not have them in this shell. Raises `ConfigError`
    for a file that cannot be read, or where these sections are wrong.
    """
    found = path if path is not None else next((name for name in FILES if Path(name).exists()), None)
    if found is None:
        return Config()
    tree = _tree(Path(found))
    whole = tree.value if isinstance(tree.value, dict) else {}
    value = {name: whole[name] for name in _RECORDS if name in whole}
    config, problems = _validated(value, Reading(env, Path(found).parent, frozenset()), tree)
    if problems or config is None:
        raise ConfigError(sorted(problems, key=_line))
    return config


def load(path: str | Path, env: Mapping[str, str] = os.environ) -> Config:
    """Read a `.yaml`, `.yml`, `.json` or `.toml` file. Raises `ConfigError`."""
    return _config(_tree(Path(path)), env, Path(path).parent)


def _tree(path: Path) -> Tree:
    source = str(path)
    format = FORMATS.get(path.suffix.lower())
    if format is None:
        raise ConfigError(
            [Problem(source, "", f"not a known format: {path.suffix!r}", f"name it {', '.join(FORMATS)}")]
        )
    return read(_read_file(path), source, format)


def _read_file(path: Path) -> str:
    source = str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise ConfigError([too_large(source)])
        return raw.decode("utf-8-sig")
    except FileNotFoundError:
        near = did_you_mean(path.name, [entry.name for entry in _siblings(path)])
        raise ConfigError([Problem(source, "", "there is no such file", near)]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(source, "", f"not UTF-8 text (byte {error.start})")]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError([Problem(source, "", f"cannot be read: {reason}")]) from None


def _siblings(path: Path) -> list[Path]:
    try:
        return [entry for entry in path.parent.iterdir() if entry.suffix.lower() in FORMATS]
    except OSError:
        return []


def parse(
    text: str,
    *,
    source: str,
    format: Format = "yaml",
    env: Mapping[str, str] = os.environ,
    folder: Path = Path(),
) -> Config:
    """The config written in `text`; `file:` references start at `folder`. Raises `ConfigError`."""
    return _config(read(text, source, format), env, folder)


def from_environment(env: Mapping[str, str] = os.environ) -> Config:
    """No file: every known provider whose key variable is set serves as `provider/model`. Raises `ConfigError`."""
    keyed = {name: row for name, row in CATALOG.items() if key_variable(row, env)}
    usable: dict[str, Any] = {
        name: {}
        for name, row in keyed.items()
        if row.dialect in DIALECTS and (row.dialect != "bedrock" or aws_region({}, env) is not None)
    }
    skipped = tuple(
        f"{key_variable(row, env)} is set, but {name} speaks the {row.dialect} dialect, which this version does not "
        f"have yet (available: {', '.join(DIALECTS)})"
        for name, row in keyed.items()
        if row.dialect not in DIALECTS
    )
    if env.get("AWS_BEARER_TOKEN_BEDROCK") and "bedrock" not in usable:
        skipped += ("AWS_BEARER_TOKEN_BEDROCK is set, but bedrock has no region: set AWS_REGION",)
    if not usable:
        rows = [row for row in CATALOG.values() if row.dialect in DIALECTS and row.key_required and row.variables]
        variables = [row.variables[0] for row in rows]
        hint = f"set one of {', '.join(variables)}, or write weighbridge.yaml"
        raise ConfigError([Problem("environment", "", "no key of a known provider is set", hint)])
    config = _config(Tree("environment", {"providers": usable}, None, []), env, Path())
    config._warnings = (*skipped, *config.warnings)
    return config


def _config(tree: Tree, env: Mapping[str, str], folder: Path) -> Config:
    value = {} if tree.value is None else tree.value
    if not isinstance(value, dict):
        raise ConfigError([Problem(tree.where(()), "", "a config is a mapping (name: value)", "see docs/config.md")])
    reading = Reading(env, folder, frozenset(mapping(value, "providers")))
    named = frozenset(text.partition("/")[0] for _, text in targets(value))
    full = {**value, "providers": fill_providers(value.get("providers"), reading, named)}
    config, problems = _validated(full, reading, tree)
    problems += tree.problems
    problems += [
        Problem(tree.where(found.loc), path_text(found.loc), found.message, found.hint)
        for found in findings(value, reading)
    ]
    if not value.get("providers") and not named:
        hint = "write for example `providers: {openai: {}}` and set OPENAI_API_KEY"
        problems.append(Problem(tree.where(()), "providers", "no providers: there is nobody to send requests to", hint))
    if problems or config is None:
        raise ConfigError(sorted(problems, key=_line))
    final = resolved(config)
    final._source = tree.source
    final._warnings = tuple(notes(config))
    return final


def _line(problem: Problem) -> int:
    line = problem.where.rpartition(":")[2]
    return int(line) if line.isdecimal() else 0


def _validated(value: dict[str, Any], reading: Reading, tree: Tree) -> tuple[Config | None, list[Problem]]:
    """Where YAML read a number, true or null and text was wanted, its text as written is put there, once."""
    try:
        return Config.model_validate(value, context=reading), []
    except ValidationError as error:
        rewritten = False
        for details in error.errors(include_url=False):
            loc = bare(details["loc"])
            text = tree.text(loc)
            if text is not None and is_not_text(details):
                _put(value, loc, text)
                rewritten = True
        if not rewritten:
            return None, [problem(details, tree) for details in error.errors(include_url=False)]
    return _validated(value, reading, tree)


def _put(value: Any, loc: Sequence[int | str], text: str) -> None:
    for part in loc[:-1]:
        value = value[part]
    value[loc[-1]] = text
