"""Rate limits foreseen: what a provider's headers and our own requests leave of each limit, before it says 429.

For each dimension (requests, tokens, input, output; each with its window) a snapshot `(limit, remaining, reset)` is
kept. Until the next one, what is left is  min(limit, remaining + rate x elapsed) - what was sent since,  with
rate = (limit - remaining) / reset, or limit / window where no reset was told. A request reserves what it will probably
use and settles when that is known. Times are seconds of any steady clock; amounts are estimates, and called so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from policies.recent import Recent

MARGIN = 1.1
"""How much of a request's estimate must be there before it is sent."""
NEAR = 0.5
"""Share left of the tightest limit under which requests are weighed one by one."""
OUTPUT = 512
"""Tokens of an answer while none has been seen."""
_PATIENCE = 60.0
"""Seconds after which a request that no snapshot counted is taken to be counted."""
_CHARS = 4.0
_OVER = 200
"""Answers over which a model's own tokens per byte, and per estimated token, are averaged."""
_GUESSED = 4
"""As many answers the first guess counts."""


class What(StrEnum):
    REQUESTS = "requests"
    TOKENS = "tokens"
    INPUT = "input"
    OUTPUT = "output"


class Told(NamedTuple):
    """What an answer's headers say of one limit. None: not said."""

    limit: float | None
    remaining: float | None
    reset: float | None
    """Seconds until the limit is whole again."""


Key = tuple[What, float]
"""Dimension, and its window in seconds."""


class Need(NamedTuple):
    """What a request will probably use."""

    input: int
    output: int

    def of(self, what: What) -> float:
        if what is What.REQUESTS:
            return 1.0
        if what is What.TOKENS:
            return float(self.input + self.output)
        return float(self.input if what is What.INPUT else self.output)


class Reservation:
    __slots__ = ("counted", "need", "sent", "tokens")

    def __init__(self, sent: float, need: Need, tokens: int | None) -> None:
        self.sent = sent
        self.need = need
        self.tokens = tokens
        """Of its prompt, by classes of characters; None where they were not counted."""
        self.counted = True
        """It is in the sums: neither dropped, nor in a snapshot by now."""


class _Level:
    __slots__ = ("at", "limit", "rate", "remaining")

    def __init__(self, told: Told, window: float, now: float) -> None:
        limit, left = told.limit, told.remaining
        # One of the two is told; where only `remaining` is, the limit is at least that.
        self.limit = limit if limit is not None else left or 0.0
        self.remaining = min(left if left is not None else self.limit, self.limit)
        used = self.limit - self.remaining
        self.rate = used / told.reset if told.reset and used > 0 else self.limit / window
        self.at = now

    def left(self, now: float) -> float:
        return min(self.limit, self.remaining + self.rate * (now - self.at))


class Ratio:
    """A mean of what was seen, in which the newest of many always counts something."""

    __slots__ = ("_seen", "value")

    def __init__(self, guess: float) -> None:
        self.value = guess
        self._seen = _GUESSED

    def learn(self, seen: float) -> None:
        self._seen = min(self._seen + 1, _OVER)
        self.value += (seen - self.value) / self._seen


class Limits:
    """Of one model behind one credential, from the first header that names any."""

    __slots__ = ("_levels", "_newest", "_output", "_per_byte", "_per_token", "_sums", "_waiting")

    def __init__(self) -> None:
        self._levels: dict[Key, _Level] = {}
        self._waiting: deque[Reservation] = deque()
        """Sent, and not yet in a snapshot; in order of sending."""
        self._sums = dict.fromkeys(What, 0.0)
        self._newest = float("-inf")
        """When the request was sent whose answer brought the newest snapshot."""
        self._output = Recent(fade=600.0)
        self._per_byte = Ratio(1.0 / _CHARS)
        """Tokens per byte of a request; learned."""
        self._per_token = Ratio(1.0)
        """Tokens per token that was estimated by classes of characters; learned."""

    def estimate(self, size: int, most: int | None, tokens: int | None = None) -> Need:
        """For a request of `size` bytes whose answer may have `most` tokens; `tokens` of its prompt, if counted."""
        prompt = size * self._per_byte.value if tokens is None else tokens * self._per_token.value
        return Need(max(1, round(prompt)), most or round(self._output.quantile(0.9, least=20) or OUTPUT))

    def wait(self, need: Need, now: float) -> float:
        """Seconds until there is room for it; 0: there is."""
        self._forget(now - _PATIENCE)
        longest = 0.0
        for (what, _), level in self._levels.items():
            wanted = min(need.of(what) * MARGIN, level.limit)
            missing = wanted - (level.left(now) - self._sums[what])
            if missing > 0.0:
                longest = max(longest, missing / level.rate if level.rate > 0.0 else _PATIENCE)
        return longest

    def share(self, now: float) -> float:
        """Share that is left of the tightest limit, 0 to 1."""
        least = 1.0
        for (what, _), level in self._levels.items():
            if level.limit > 0.0:
                least = min(least, (level.left(now) - self._sums[what]) / level.limit)
        return max(0.0, least)

    def reserve(self, need: Need, now: float, tokens: int | None = None) -> Reservation:
        one = Reservation(now, need, tokens)
        self._waiting.append(one)
        self._add(need, 1.0)
        return one

    def drop(self, one: Reservation) -> None:
        """It was not sent after all, or failed before it was worked on."""
        if one.counted:
            self._add(one.need, -1.0)
        one.counted = False

    def settle(self, one: Reservation, used: Need, size: int, now: float) -> None:
        """What it used is known. `size`: bytes of its request."""
        if size:
            self._per_byte.learn(min(1.0, used.input / size))
        if one.tokens:
            self._per_token.learn(min(4.0, used.input / one.tokens))
        self._output.add(float(used.output), now)
        if one.counted:
            self._add(one.need, -1.0)
            self._add(used, 1.0)
            one.need = used

    def learn(self, told: Mapping[Key, Told], sent: float, now: float) -> None:
        """A snapshot, with the answer to a request that was sent at `sent`."""
        if sent < self._newest:
            return
        self._forget(sent)
        for key, one in told.items():
            self._levels[key] = _Level(one, key[1], now)

    def _forget(self, until: float) -> None:
        """What was sent up to then is in the snapshot."""
        if until > self._newest:
            self._newest = until
        waiting = self._waiting
        while waiting and waiting[0].sent <= until:
            one = waiting.popleft()
            if one.counted:
                self._add(one.need, -1.0)
            one.counted = False

    def _add(self, need: Need, sign: float) -> None:
        sums = self._sums
        sums[What.REQUESTS] += sign
        sums[What.TOKENS] += sign * (need.input + need.output)
        sums[What.INPUT] += sign * need.input
        sums[What.OUTPUT] += sign * need.output
