"""Linked files put into requests for targets that take none by link."""

from __future__ import annotations

import asyncio
import base64
import json
from random import Random
from typing import Any

import orjson
import pytest

from proxy.assemble import front
from proxy.call import call
from proxy.clock import RealClock
from proxy.config import parse
from proxy.engine import Engine
from proxy.errors import Refusal
from proxy.measure.bus import Bus
from proxy.media import LINKS_LIMIT, Media
from proxy.record import Exchange
from proxy.simulated import Simulated
from proxy.transport.choose import Transports
from proxy.transport.fetch import Fetched, Fetcher, NotFetched
from proxy.wire.chat import ChatRequest

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PNG = f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"
LINK = "https://pictures.example/a.png"


class Told(Fetcher):
    """Knows what is where without asking anybody."""

    def __init__(self, **files: Fetched) -> None:
        super().__init__()
        self.files = files
        self.asked: list[str] = []

    async def fetch(self, url: str) -> Fetched:
        self.asked.append(url)
        found = self.files.get(url.rpartition("/")[2].partition(".")[0])
        if found is None:
            raise NotFetched("its server answered 404")
        return found


def told() -> Told:
    return Told(a=Fetched("image/png", PIXEL), p=Fetched("application/pdf", b"%PDF"), h=Fetched("text/html", b"<html>"))


def ask(*parts: Any) -> ChatRequest:
    messages = [
        {"role": "system", "content": "x"},
        {"role": "user", "content": [{"type": "text", "text": "?"}, *parts]},
    ]
    return ChatRequest.parse(orjson.dumps({"model": "chat", "messages": messages, "seed": 7}))


def image(url: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, "detail": "low"}}


def inlined(fetcher: Told, request: ChatRequest) -> ChatRequest:
    return asyncio.run(Media(fetcher).inlined(request))


def test_links_become_data() -> None:
    fetcher = told()
    file = {"type": "file", "file": {"filename": "p.pdf", "file_data": "https://pictures.example/p.pdf"}}
    request = ask(image(LINK), image(PNG), file, {"type": "image_url", "image_url": LINK.upper()})
    before = request.raw
    fetcher.files["A"] = fetcher.files["a"]
    found = inlined(fetcher, request)
    parts = found.body["messages"][1]["content"]
    assert parts[1] == parts[2] == image(PNG)
    assert parts[3]["file"] == {"filename": "p.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}
    assert parts[4]["image_url"] == {"url": PNG}
    assert found.body["seed"] == 7
    assert request.raw == before
    assert orjson.loads(found.raw) == found.body


def test_a_request_without_links_is_left_alone() -> None:
    request = ask(image(PNG), image("data:,"), image(5), {"type": "image_url"}, {"type": [1]}, "x")
    assert inlined(told(), request) is request
    assert not Media.may_hold_links(request)
    assert Media.may_hold_links(ask(image(LINK)))
    assert Media.may_hold_links(ask(image("HTTP://x")))


def test_a_file_is_fetched_once_while_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    fetcher = told()
    media = Media(fetcher)
    for _ in range(3):
        asyncio.run(media.inlined(ask(image(LINK), image(LINK))))
    assert fetcher.asked == [LINK]
    monkeypatch.setattr("proxy.media.CACHE_LIMIT", 10)
    asyncio.run(media.inlined(ask(image("https://pictures.example/p.pdf"))))
    asyncio.run(media.inlined(ask(image(LINK))))
    assert fetcher.asked == [LINK, "https://pictures.example/p.pdf", LINK]


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (image("https://pictures.example/gone.png"), "answered 404"),
        (image("https://pictures.example/h.html"), "neither an image nor a PDF"),
    ],
)
def test_what_cannot_be_fetched_is_the_clients_fault(part: Any, why: str) -> None:
    with pytest.raises(Refusal, match=why) as refused:
        inlined(told(), ask(part))
    assert (refused.value.status, refused.value.param) == (400, "messages[1].content[1]")


def test_there_is_a_most_of_links() -> None:
    with pytest.raises(Refusal, match="more than 20 links"):
        inlined(told(), ask(*[image(LINK)] * (LINKS_LIMIT + 1)))


async def _through(part: Any, fetch_links: str = "https") -> tuple[Exchange, dict[str, list[Any]]]:
    """Bedrock first, then OpenAI, in one route."""
    async with Simulated("bedrock", tokens=3) as bedrock, Simulated(tokens=3) as openai:
        providers = {
            "bedrock": {"base_url": bedrock.base_url, "api_key": "k", "region": "us-east-1"},
            "openai": {"base_url": openai.base_url, "api_key": "k"},
        }
        routes = {"chat": {"targets": ["bedrock/m", "openai/m"]}}
        config = json.dumps({"providers": providers, "routes": routes, "server": {"fetch_links": fetch_links}})
        transports = Transports()
        router = front(parse(config, source="t", format="json", env={}), transports.for_provider, Random(0)).router
        route = router.find("chat", True)
        assert [target.media is not None for target in route.targets] == [fetch_links != "never", False]
        for target in route.targets[:1]:
            target.media = Media(told()) if target.media is not None else None
        request = ask(part)
        engine = Engine(RealClock(), Bus({}), Random(0))
        done = await asyncio.create_task(call(engine, request, router.plan(route, request)))
        await transports.aclose()
        asked = {"bedrock": bedrock.requests, "openai": openai.requests}
        return done.exchange, {name: [one.json for one in found] for name, found in asked.items()}


def test_a_target_that_takes_no_links_gets_the_data() -> None:
    exchange, asked = asyncio.run(_through(image(LINK)))
    assert exchange.winner is not None
    assert exchange.winner.target == "bedrock/m"
    [body] = asked["bedrock"]
    assert body["messages"][0]["content"][1]["image"] == {
        "format": "png",
        "source": {"bytes": base64.b64encode(PIXEL).decode()},
    }


@pytest.mark.parametrize(
    ("part", "fetch_links"), [(image("https://x.example/gone.png"), "https"), (image(LINK), "never")]
)
def test_otherwise_another_target_gets_the_link(part: Any, fetch_links: str) -> None:
    exchange, asked = asyncio.run(_through(part, fetch_links))
    assert exchange.winner is not None
    assert exchange.winner.target == "openai/m"
    assert asked["bedrock"] == []
    assert asked["openai"][0]["messages"][1]["content"][1] == part
