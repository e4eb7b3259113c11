"""What the catalog adds to the `providers` section, and the checks of addresses and headers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from proxy.config.problems import Wrong, did_you_mean
from proxy.providers.catalog import CATALOG, DIALECTS, Row

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# Hop-by-hop headers (RFC 9110, 7.6.1) and what the transport writes itself.
_OWN_HEADERS = {
    "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer",
    "transfer-encoding", "upgrade", "host", "content-length", "expect",
}  # fmt: skip

_OWN_VERSION = {"azure", "gemini", "vertex", "bedrock", "cohere", "otlp"}
"""Dialects (and OTLP, that of trace collectors) whose paths name the version themselves, or have none: `/v1` is not
added to their addresses."""


class Reading(NamedTuple):
    """What the validators of a config that comes from a file may look at."""

    env: Mapping[str, str]
    folder: Path
    """Where `file:` references start."""
    providers: frozenset[str]
    """Names that the file itself configures."""


TOKENS = ("token_command", "token_file", "google_key")
"""Sources of tokens that expire."""


def key_variable(row: Row, env: Mapping[str, str]) -> str | None:
    """The first of the row's variables that is set and not empty; `A:B` are two that are needed together."""
    return next((name for name in row.variables if all(env.get(part) for part in name.split(":"))), None)


def check_dialect(name: str, dialect: str) -> None:
    if dialect in DIALECTS:
        return
    available = ", ".join(DIALECTS)
    if dialect in {row.dialect for row in CATALOG.values()}:
        raise Wrong(
            f"provider {name!r} speaks the {dialect} dialect, which this version does not have yet",
            f"available: {available}",
        )
    raise Wrong(f"unknown dialect {dialect!r}", did_you_mean(dialect, DIALECTS) or f"available: {available}")


def check_provider(name: str, reading: Reading) -> None:
    """Whether targets may name this provider: configured in the file, or known and in need of nothing more."""
    if name in reading.providers:
        return
    row = CATALOG.get(name)
    if row is None:
        near = did_you_mean(name, {*reading.providers, *CATALOG})
        raise Wrong(f"unknown provider {name!r}", near or f"configure it: providers: {{{name}: {{base_url: …}}}}")
    check_dialect(name, row.dialect)
    if row.dialect == "vertex":
        raise Wrong(f"provider {name!r} must be configured", VERTEX_HINT)
    if row.dialect == "bedrock" and aws_region({}, reading.env) is None:
        raise Wrong(f"provider {name!r} has no region", BEDROCK_HINT)
    if row.key_required and key_variable(row, reading.env) is None:
        raise Wrong(f"provider {name!r} has no key", f"set {row.variables[0]}")


def fill_providers(written: Any, reading: Reading, named: frozenset[str]) -> Any:
    """The section with the rows of known names filled in, and with those known providers that only targets name.

    Takes and returns unvalidated values: what has the wrong shape is left for the model to report. Providers of a
    dialect that is not there, or like an unknown one, are left out, since nothing else about them can be judged;
    `references` reports them.
    """
    if written is None:
        written = {}
    if not isinstance(written, dict):
        return written
    full = {
        name: _filled(name, entry, reading.env)
        for name, entry in written.items()
        if dialect_of(name, entry) in DIALECTS and not unknown_like(entry)
    }
    for name in sorted(named - written.keys()):
        try:
            check_provider(name, reading)
        except Wrong:
            continue  # Reported where the target stands.
        full[name] = _filled(name, {}, reading.env)
    return full


def _row(name: str, entry: dict[str, Any]) -> Row | None:
    like = entry.get("like") or name
    return CATALOG.get(like) if isinstance(like, str) else None


def unknown_like(entry: Any) -> str | None:
    """What `like` names, if it is not in the catalog."""
    like = entry.get("like") if isinstance(entry, dict) else None
    return like if isinstance(like, str) and like not in CATALOG else None


def dialect_of(name: str, entry: Any) -> str:
    """What a provider speaks, as far as unvalidated values tell; "openai" where they do not."""
    if not isinstance(entry, dict):
        entry = {}
    row = _row(name, entry)
    written = entry.get("dialect")
    return written if isinstance(written, str) else row.dialect if row else DIALECTS[0]


def _filled(name: str, entry: Any, env: Mapping[str, str]) -> Any:
    if entry is None:
        entry = {}
    if not isinstance(entry, dict):
        return entry
    row = _row(name, entry)
    full = {key: value for key, value in entry.items() if value is not None or key == "api_key"}
    if dialect_of(name, entry) == "vertex":
        # Without a project nothing can be called, which `references` reports.
        full.setdefault("base_url", vertex_url(str(full.get("project")), str(full.get("location", "global"))))
    if dialect_of(name, entry) == "bedrock":
        # Without a region nothing can be called, which `references` reports.
        region = aws_region(full, env)
        full.setdefault("base_url", aws_url(region or "none"))
        if region is not None:
            full.setdefault("region", region)
    if row is None:
        return full
    full.setdefault("dialect", row.dialect)
    if row.base_url and full["dialect"] == row.dialect:
        full.setdefault("base_url", row.base_url)
    full.setdefault("verbatim", row.verbatim)
    full.setdefault("usage_in_stream", row.usage_in_stream)
    if not full.keys() & _KEYS:
        variable = key_variable(row, env)
        if variable or (row.key_required and row.variables):
            full["api_key"] = f"env:{variable or row.variables[0]}"
    return full


_KEYS = {"api_key", "api_keys", *TOKENS}
"""Where a credential may come from."""

VERTEX_HINT = "providers: {vertex: {project: …, location: …, api_key: env:…}}"


def vertex_url(project: str, location: str) -> str:
    """Vertex AI's address of a project at a location: `global`, a multi-region (`us`, `eu`) or a region.

    The hosts are those that google-genai calls.
    """
    if location == "global":
        host = "aiplatform.googleapis.com"
    elif location in ("us", "eu"):
        host = f"aiplatform.{location}.rep.googleapis.com"
    else:
        host = f"{location}-aiplatform.googleapis.com"
    return f"https://{host}/v1/projects/{project}/locations/{location}"


BEDROCK_HINT = "set AWS_REGION, or write providers: {bedrock: {region: …}}"
_AWS_HOST = re.compile(r"bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.")


def aws_region(entry: dict[str, Any], env: Mapping[str, str]) -> str | None:
    """The region that is written, that the address names, or that the environment has (as AWS's own SDKs read it)."""
    address = entry.get("base_url")
    named = _AWS_HOST.search(address) if isinstance(address, str) else None
    written = entry.get("region") or (named and named[1]) or env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION")
    return str(written) if written else None


def aws_url(region: str) -> str:
    """Bedrock's address in a region; the partition of China has a domain of its own."""
    return f"https://bedrock-runtime.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


def base_url(value: str, dialect: str = "openai") -> str:
    """An http(s) address without a trailing slash; one without a path gets `/v1`, as OpenAI's own servers have it."""
    if not value.isascii() or not value.isprintable() or " " in value:
        raise Wrong("an address holds only visible ASCII letters", "write an international name in its xn-- form")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise Wrong(f"not an address: {str(error)[:80]}") from None
    _check_address(parts, port)
    if value.rstrip("/") in {row.base_url for row in CATALOG.values()}:
        return value.rstrip("/")
    path = parts.path.rstrip("/")
    bare = "" if dialect in _OWN_VERSION else "/v1"
    return f"{parts.scheme}://{parts.netloc}{path or bare}"


def _check_address(parts: SplitResult, port: int | None) -> None:
    if parts.scheme not in ("http", "https"):
        raise Wrong("should begin with http:// or https://")
    if "@" in parts.netloc:
        raise Wrong("should hold no user name or password", "put the key into api_key")
    if not parts.hostname or port == 0:
        raise Wrong("has no host" if not parts.hostname else "port 0 cannot be called")
    if parts.query or parts.fragment:
        raise Wrong("should hold no query (?…) and no fragment (#…)")
    if parts.path.rstrip("/").endswith("/chat/completions"):
        raise Wrong("names the whole path", "end it before /chat/completions")


def is_loopback(host: str) -> bool:
    """Whether an address or a name means this machine only."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def header_name(value: str) -> str:
    if not _HEADER_NAME.fullmatch(value):
        raise Wrong(f"not a header name: {value[:40]!r}")
    if value.lower() == "authorization":
        raise Wrong("authorization is written by the proxy", "put the key into api_key")
    if value.lower() in _OWN_HEADERS:
        raise Wrong(f"{value.lower()} is written by the proxy itself")
    return value
