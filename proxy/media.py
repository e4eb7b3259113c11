"""Linked pictures and files, fetched and put into the request for targets that take none by link.

Only where the config says so (`server.fetch_links`), and only for requests that hold a link: no other pays for it.
What was fetched is kept for a while, since an agent sends the same picture with every turn.
"""

from __future__ import annotations

import base64
import re
from collections import OrderedDict
from typing import Any

from proxy.errors import Refusal
from proxy.transport.fetch import Fetched, Fetcher, NotFetched
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import Json

CACHE_LIMIT = 64 * 2**20
"""Bytes of files that are kept."""
LINKS_LIMIT = 20
"""Links of one request."""

_LINK = re.compile(rb'"https?:', re.IGNORECASE)
_KINDS = re.compile(r"image/[a-z0-9.+-]+|application/pdf")
_MEMBERS = {"image_url": "url", "file": "file_data"}
"""Type of a part -> the member that may be a link."""


class Media:
    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._size = 0

    @staticmethod
    def may_hold_links(ask: ChatRequest) -> bool:
        """Cheap: some text of the request begins as a link does."""
        return _LINK.search(ask.raw) is not None

    async def inlined(self, ask: ChatRequest) -> ChatRequest:
        """The request with data in place of its links; the very one where it has none.

        Raises `Refusal` (400) naming the part whose link cannot be fetched.
        """
        messages = list(ask.body["messages"])
        count = 0
        for place, message in enumerate(messages):
            parts = message.get("content")
            if type(parts) is not list:
                continue
            changed = list(parts)
            for at, part in enumerate(parts):
                link = _link(part)
                if link is None:
                    continue
                count += 1
                where = f"messages[{place}].content[{at}]"
                if count > LINKS_LIMIT:
                    raise _refusal(where, f"there are more than {LINKS_LIMIT} links in the request")
                changed[at] = _with(part, await self._data(link, where))
            if changed != parts:
                messages[place] = {**message, "content": changed}
        return ask.with_body({**ask.body, "messages": messages}) if count else ask

    async def _data(self, url: str, where: str) -> str:
        kept = self._kept.get(url)
        if kept is not None:
            self._kept.move_to_end(url)
            return kept
        try:
            fetched = await self._fetcher.fetch(url)
        except NotFetched as error:
            raise _refusal(where, str(error)) from None
        if not _KINDS.fullmatch(fetched.kind):
            raise _refusal(where, "it is neither an image nor a PDF")
        return self._keep(url, fetched)

    def _keep(self, url: str, fetched: Fetched) -> str:
        data = f"data:{fetched.kind};base64,{base64.b64encode(fetched.data).decode()}"
        self._size += len(data) - len(self._kept.pop(url, ""))
        self._kept[url] = data
        while self._size > CACHE_LIMIT:
            self._size -= len(self._kept.popitem(last=False)[1])
        return data


def _link(part: Any) -> str | None:
    kind = part.get("type") if type(part) is dict else None
    member = _MEMBERS.get(kind) if type(kind) is str else None
    if member is None:
        return None
    held = part.get(kind)
    link = held.get(member) if type(held) is dict else held
    return link if type(link) is str and link[:8].lower().startswith(("http://", "https://")) else None


def _with(part: Json, data: str) -> Json:
    kind = part["type"]
    held = part[kind] if type(part[kind]) is dict else {}
    return {**part, kind: {**held, _MEMBERS[kind]: data}}


def _refusal(where: str, why: str) -> Refusal:
    message = f"`{where}`: the link cannot be fetched: {why}. Send the file as a data URL."
    return Refusal(400, message, param=where, code="invalid_image_url")
