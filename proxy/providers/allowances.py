"""The headers in which providers tell their rate limits, in one form.

Names differ, their parts do not: something with `ratelimit` (or `tokenlimit`), one of limit, remaining and reset, and
words for what is limited and for how long. Seen at OpenAI, Azure, Groq (`x-ratelimit-remaining-tokens`), Anthropic
(`anthropic-ratelimit-input-tokens-remaining`), Cerebras (`x-ratelimit-limit-tokens-minute`), Mistral
(`x-ratelimit-remaining-req-minute`), Fireworks (`...-tokens-prompt`), Together and OpenRouter (`x-ratelimit-reset`),
and in the IETF's draft (`ratelimit-remaining`). A header with a word that is not known is left alone.

Resets are durations (`1s`, `6m0s`, `12ms`, bare seconds), dates (RFC 3339), or seconds or milliseconds since the epoch.
"""

from __future__ import annotations

import re
from calendar import timegm

from policies.limits import Key, Told, What
from proxy.providers.base import Headers

_FIELDS = {"limit", "remaining", "reset"}
_WHAT = {
    "requests": What.REQUESTS,
    "req": What.REQUESTS,
    "tokens": What.TOKENS,
    "input": What.INPUT,
    "prompt": What.INPUT,
    "output": What.OUTPUT,
    "generated": What.OUTPUT,
}
_WINDOWS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)")
_EPOCH = 1e9
"""Bare numbers from here on are moments, not durations."""


def allowances(headers: Headers, wall: float) -> dict[Key, Told]:
    """Every limit that the headers tell; `wall`: now, in seconds since the epoch. What makes no sense is left out."""
    found: dict[Key, dict[str, float]] = {}
    for name, value in headers:
        if b"ratelimit" not in name and b"tokenlimit" not in name:
            continue
        meaning = _meaning(name.decode("latin-1"))
        if meaning is None:
            continue
        field, key = meaning
        text = value.decode("latin-1").strip()
        number = _seconds(text, wall) if field == "reset" else _amount(text)
        if number is not None:
            found.setdefault(key, {})[field] = number
    return {
        key: Told(fields.get("limit"), fields.get("remaining"), fields.get("reset"))
        for key, fields in found.items()
        # A limit of 0 is what some send for "none"; remaining alone says enough.
        if (fields.get("limit") or 0.0) > 0.0 or "remaining" in fields
    }


def _meaning(name: str) -> tuple[str, Key] | None:
    head, mark, tail = name.partition("ratelimit")
    what, window = What.REQUESTS, 60.0
    if not mark:
        head, _, tail = name.partition("tokenlimit")
        what = What.TOKENS
    if head not in ("", "x-", "anthropic-"):
        return None
    field = ""
    for word in tail.strip("-").split("-"):
        if word in _FIELDS and not field:
            field = word
        elif word in _WINDOWS:
            window = _WINDOWS[word]
        elif word in _WHAT:
            # `input-tokens` and `tokens-prompt` are input; `tokens` alone is both.
            if what not in (What.INPUT, What.OUTPUT):
                what = _WHAT[word]
        else:
            return None
    return (field, (what, window)) if field else None


def _amount(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0.0 <= number < 1e15 else None  # Azure has sent -1


def _seconds(text: str, wall: float) -> float | None:
    if _DURATION.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    number = _amount(text)
    if number is not None:
        if number >= _EPOCH * 1000:
            number = number / 1000 - wall
        elif number >= _EPOCH:
            number -= wall
        return max(0.0, number)
    date = _DATE.fullmatch(text)
    if date is None:
        return None
    moment = timegm((*(int(part) for part in date.groups()[:6]), 0, 0, 0)) + float(f"0{date[7] or '.0'}")
    if date[8] != "Z":
        sign = -1.0 if date[8][0] == "-" else 1.0
        moment -= sign * (int(date[8][1:3]) * 3600 + int(date[8][4:6]) * 60)
    return max(0.0, moment - wall)
