"""Addresses of Google's two services: Vertex's made of project and location, Gemini's without `/v1`."""

from __future__ import annotations

import pytest

from proxy.assemble import DIALECTS
from proxy.config import Config, ConfigError, parse
from proxy.providers.base import Endpoint

ENV = {"TOKEN": "ya29.token", "GEMINI_API_KEY": "key"}


def read(providers: str) -> Config:
    return parse(f"providers: {{{providers}}}", source="c.yaml", env=ENV)


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("project: acme, location: europe-west4", "https://europe-west4-aiplatform.googleapis.com/v1/projects/acme/locations/europe-west4"),
        ("project: acme", "https://aiplatform.googleapis.com/v1/projects/acme/locations/global"),
        ("project: 1234567890, location: us", "https://aiplatform.us.rep.googleapis.com/v1/projects/1234567890/locations/us"),
        ("base_url: 'http://127.0.0.1:9000'", "http://127.0.0.1:9000"),
        ("base_url: 'http://127.0.0.1:9000/v1/projects/p/locations/l/'", "http://127.0.0.1:9000/v1/projects/p/locations/l"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["vertex: {", "work: {like: vertex, ", "work: {dialect: vertex, "])
def test_where_vertex_is(name: str, written: str, url: str) -> None:
    config = read(f"{name}{written}, api_key: env:TOKEN}}")
    (provider,) = config.providers.values()
    assert (provider.dialect, provider.base_url) == ("vertex", url)
    assert config.warnings == ()
    path = DIALECTS["vertex"].path(Endpoint("vertex", url, "gemini-3.5-flash"), stream=True)
    assert path == "/publishers/google/models/gemini-3.5-flash:streamGenerateContent?alt=sse"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("vertex: {api_key: env:TOKEN}", "vertex needs a project"),
        ("vertex: ", "vertex needs a project"),
        ("vertex: {project: 'a/b'}", "not a name that can stand in an address: 'a/b'"),
        ("vertex: {project: a, location: '..'}", "not a name that can stand in an address: '..'"),
    ],
)
def test_what_vertex_needs(written: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read(written)


def test_a_target_cannot_name_vertex_unconfigured() -> None:
    with pytest.raises(ConfigError, match="provider 'vertex' must be configured"):
        parse("routes: {chat: {targets: [vertex/gemini-3.5-flash]}}", source="c.yaml", env=ENV)


@pytest.mark.parametrize(
    ("written", "warning"),
    [
        ("gemini: {project: acme}", "providers.gemini.project: has no effect with the dialect 'gemini'"),
        (
            "vertex: {location: us, base_url: 'http://127.0.0.1:9000'}",
            "providers.vertex.location: has no effect, since base_url names another address",
        ),
    ],
)
def test_what_has_no_effect(written: str, warning: str) -> None:
    assert warning in read(written).warnings


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://127.0.0.1:9000", "/v1beta/models/m:generateContent"),
        ("https://generativelanguage.googleapis.com/", "/v1beta/models/m:generateContent"),
        ("https://gateway.example/gemini", "/v1beta/models/m:generateContent"),
        ("https://gateway.example/gemini/v1beta/", "/models/m:generateContent"),
    ],
)
def test_gemini_behind_another_address(url: str, path: str) -> None:
    address = read(f"gemini: {{base_url: '{url}'}}").providers["gemini"].base_url
    assert address == url.rstrip("/")
    assert DIALECTS["gemini"].path(Endpoint("gemini", address, "m"), stream=False) == path
