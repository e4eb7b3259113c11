"""From a verdict to a canary: the route as it will be, for the reader to put into the config, or put there at once."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from proxy.config.shadow import Candidate
    from proxy.shadow.terms import Terms

Tree = dict[str, Any]
_CHANGES_PROMPTS = ("system", "prefix", "suffix", "cache_bust")
_WIDTH = 4096


class Impossible(Exception):
    """The text says why, and how it can be done by hand."""


def changed(tree: Tree, terms: Terms, candidate: Candidate) -> list[str]:
    """Edits the routes of a config as it is written; gives back what the reader should know. Raises `Impossible`."""
    told = []
    written = [name for name in _CHANGES_PROMPTS if getattr(candidate, name)]
    if written:
        told.append(
            f"the candidate was asked with another prompt ({', '.join(written)}), which a route cannot add: change the"
            " prompt where it is written, or what was tried is not what will serve"
        )
    for name in terms.routes:
        route = (tree.get("routes") or {}).get(name)
        if not isinstance(route, dict) or not isinstance(route.get("targets"), list):
            raise Impossible(f"the config does not list the targets of the route {name!r}")
        policy = route.get("policy", "ordered")
        kind = policy.get("kind") if isinstance(policy, Mapping) else policy
        if kind == "canary":
            raise Impossible(f"the route {name!r} has a canary already: wait for its end, then promote")
        if kind != "ordered" and len(route["targets"]) > 1:
            told.append(f"during the canary, {name}'s other conversations go to its first target, not by {kind!r}")
        route["policy"] = _canary(terms, candidate)
        if not any(_label(target) == candidate.label for target in route["targets"]):
            route["targets"].append(_target(candidate))
    return told


def _canary(terms: Terms, candidate: Candidate) -> Tree:
    """Its margins are those of the experiment, where both have them."""
    policy: Tree = {"kind": "canary", "candidate": candidate.label}
    for gauge in terms.gauges:
        if gauge.kind == "errors":
            policy["margin"] = gauge.margin
        elif gauge.kind == "ttft" and gauge.slo is not None:
            policy |= {"slo": f"{gauge.slo:g}s", "slower": gauge.margin}
    return policy


def _target(candidate: Candidate) -> Tree | str:
    more = {name: getattr(candidate, name) for name in ("name", "params", "force") if getattr(candidate, name)}
    return {"target": candidate.target, **more} if more else candidate.target


def _label(target: object) -> object:
    return (target.get("name") or target.get("target")) if isinstance(target, Mapping) else target


class File:
    """A config file that is edited in place, comments and all."""

    def __init__(self, path: Path) -> None:
        """Raises OSError, `Impossible`."""
        self.path = path
        self._text = path.read_text(encoding="utf-8-sig")
        self._yaml: Any = None
        if path.suffix in (".yaml", ".yml"):
            from ruamel.yaml import YAML
            from ruamel.yaml.util import load_yaml_guess_indent

            tree, indent, offset = load_yaml_guess_indent(self._text)
            self._yaml = YAML()
            self._yaml.preserve_quotes = True
            self._yaml.width = _WIDTH
            self._yaml.indent(mapping=indent or 2, sequence=indent or 2, offset=offset or 0)
            self.tree: Tree = tree
        elif path.suffix == ".json":
            self.tree = orjson.loads(self._text)
        else:
            raise Impossible(f"{path.name} is not edited by this program: put the route into it by hand")

    def routes(self, names: tuple[str, ...]) -> str:
        """These routes as they stand in the tree, as YAML."""
        from ruamel.yaml import YAML

        yaml = self._yaml or YAML()
        out = io.StringIO()
        yaml.dump({"routes": {name: self.tree["routes"][name] for name in names}}, out)
        return out.getvalue()

    def write(self) -> None:
        """At once and whole, so that a running proxy never reads half a file. Raises `ConfigError`, OSError."""
        from proxy.config import parse
        from proxy.config.source import FORMATS

        text = self._whole()
        parse(text, source=str(self.path), format=FORMATS[self.path.suffix], env=os.environ, folder=self.path.parent)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(name).chmod(self.path.stat().st_mode & 0o777)
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _whole(self) -> str:
        if self._yaml is None:
            return orjson.dumps(self.tree, option=orjson.OPT_INDENT_2).decode() + "\n"
        out = io.StringIO()
        self._yaml.dump(self.tree, out)
        return out.getvalue()
