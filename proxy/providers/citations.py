"""Sources as Perplexity tells them, put into OpenAI's annotations."""

from __future__ import annotations

import re

from proxy.wire.chunk import Json

_MARK = re.compile(r"\[(\d{1,3})\]")


def citations_of(text: str, body: Json) -> list[Json]:
    """One annotation for each `[n]` in the text: source n of `citations` (addresses), titled by `search_results`.

    Sources that the text does not name get none, since an annotation has a place; the lists themselves are kept.
    """
    told = body.get("search_results")
    results = [one for one in told if type(one) is dict] if type(told) is list else []
    titled = [one for one in results if type(one.get("url")) is str and type(one.get("title")) is str]
    titles = {one["url"]: one["title"] for one in titled}
    named = body.get("citations")
    sources = named if type(named) is list and named else [one.get("url") for one in results]
    found = []
    for match in _MARK.finditer(text):
        number = int(match[1]) - 1
        if 0 <= number < len(sources) and type(sources[number]) is str:
            url = sources[number]
            place = {"start_index": match.start(), "end_index": match.end()}
            found.append({"type": "url_citation", "url_citation": {**place, "title": titles.get(url, ""), "url": url}})
    return found
