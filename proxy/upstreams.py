"""The targets: where each leads to, how it is spoken to, and what is under way there.

The only mutable routing state (with `condition.py`, which says how a target is). Policies see it as `Candidate`
snapshots; nobody else changes it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from copy import copy
from random import Random
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from policies.base import Candidate
from policies.breaker import Breaker
from proxy.clock import SECOND, Clock
from proxy.condition import Condition, Credential
from proxy.credentials import Token
from proxy.errors import UpstreamError
from proxy.media import Media
from proxy.prices.book import Price
from proxy.prices.tariff import Tariff
from proxy.providers.base import Endpoint, Natives, PerCall, Provider, Sign, Signs, Speaker
from proxy.transport.base import Head, Origin, Transport
from proxy.turns import UNBOUND
from proxy.wire.request import CHAT, Request

_LEAST_SECRET = 12
"""Letters of what is taken for a secret in an upstream's words; keys are longer, and words of a message are not."""
DIRECT_LIMIT = 1000
"""Targets kept for direct `provider/model` requests; the least recently used goes first."""


class Timeouts(NamedTuple):
    """Deadlines of one target, in nanoseconds."""

    total: int = 600 * SECOND
    connect: int = 3 * SECOND
    ttft: int = 30 * SECOND
    """Request sent to first content, streamed."""
    ttft_reasoning: int = 120 * SECOND
    stall: int = 20 * SECOND
    """Between two content events, or two reads of a body that is not streamed."""
    answer: int = 300 * SECOND
    """Request sent to first byte of an answer that is not streamed."""
    downstream: int = 60 * SECOND
    """A client that does not take what it is sent."""
    adaptive: bool = False
    """First content may take thrice as long as 99 % of late, in place of `ttft` and `ttft_reasoning`."""


class Target:
    """Provider, model, endpoint and key: one place to send a request to."""

    __slots__ = (
        "_credential",
        "_heads",
        "_secrets",
        "_speakers",
        "account",
        "condition",
        "context_window",
        "endpoint",
        "heeds_breaker",
        "lacks",
        "media",
        "name",
        "names",
        "origin",
        "price",
        "priority",
        "provider",
        "sign",
        "timeouts",
        "token",
        "transport",
        "unsupported",
        "weight",
    )

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        provider: Provider,
        transport: Transport,
        credential: str | None,
        timeouts: Timeouts,
        *,
        weight: float = 1.0,
        context_window: int | None = None,
        unsupported: str = "drop",
        priority: int = 1,
        lacks: frozenset[str] = frozenset(),
        price: Price | None = None,
        condition: Condition | None = None,
        heeds_breaker: bool = True,
        media: Media | None = None,
        token: Token | None = None,
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self.provider = provider
        self.transport = transport
        self.timeouts = timeouts
        self.weight = weight
        self.context_window = context_window
        self.unsupported = unsupported
        """What becomes of parameters that it does not take: `drop` them, `skip` the target, or `strict`: refuse."""
        self.priority = priority
        self.lacks = lacks
        self.names = frozenset(
            one.lower() for one in (name, endpoint.provider, f"{endpoint.provider}/{endpoint.model}")
        )
        """What a request may call it by, in lower case."""
        self.price = price
        self.condition = condition or Condition(name, Credential(), Random())  # noqa: S311  (jitter)
        """How it is; shared with every other route's target of the same model and credential."""
        self.heeds_breaker = heeds_breaker
        self.token = token
        """Instead of a credential that stays the same."""
        self.media = media
        """Fetches linked files, for a target that takes none by link; None where links are passed on."""
        self.sign: Sign | None = provider.signer(endpoint, credential) if isinstance(provider, Signs) else None
        """For requests that must be signed one by one."""
        parts = urlsplit(endpoint.base_url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self.origin = Origin(parts.scheme, parts.hostname or "", port)
        self._credential = credential
        kept = [*(credential.split(":") if credential else ()), *[value for _, value in endpoint.headers]]
        self._secrets = tuple([one for one in kept if len(one) >= _LEAST_SECRET])
        self.account: object = _whose(endpoint, credential) if credential else None
        """Whose rate limits it takes from; None where no key says."""
        self._speakers: dict[str, Speaker[Any]] = {CHAT: provider}
        if isinstance(provider, Natives):
            had = endpoint.operations
            self._speakers.update({name: one for name, one in provider.natives.items() if had is None or name in had})
        self._heads: dict[str, tuple[Head, Head]] = {CHAT: self._both_heads(provider)}

    def with_endpoint(self, endpoint: Endpoint) -> Target:
        """The same target asked in another way or for another model; its state is not shared."""
        one = copy(self)
        one.endpoint = endpoint
        one.condition = Condition(self.name, Credential(), Random())  # noqa: S311  (jitter)
        one._heads = {CHAT: one._both_heads(one.provider)}
        return one

    def hide(self, error: UpstreamError) -> None:
        """Takes our own credential out of what the upstream said: some tell a wrong key back whole."""
        for secret in self._secrets:
            error.detail = error.detail.replace(secret, "[secret]")
            if error.body is not None:
                error.body = error.body.replace(secret.encode(), b"[secret]")

    def speaker(self, operation: str) -> Speaker[Any] | None:
        """Who can ask for the operation in its own words; None where it must be translated, if it can be."""
        return self._speakers.get(operation)

    def serves(self, ask: Request) -> bool:
        """Whether the request can be asked of this target at all, natively or as a chat completion."""
        return ask.translates or ask.operation in self._speakers

    def head(self, operation: str, stream: bool) -> Head:
        """What stays the same in every request for an operation that `speaker` knows."""
        heads = self._heads.get(operation)
        if heads is None:
            heads = self._heads[operation] = self._both_heads(self._speakers[operation])
        return heads[stream]

    def get(self, path: str) -> Head:
        """A question without a body, such as which models there are."""
        base = urlsplit(self.endpoint.base_url).path.rstrip("/")
        fixed = self.provider.headers(self.endpoint, self._credential, False)
        return Head("GET", base + path, [one for one in fixed if one[0] != b"content-type"])

    def _both_heads(self, speaker: Speaker[Any]) -> tuple[Head, Head]:
        base = urlsplit(self.endpoint.base_url).path.rstrip("/")
        own = speaker.per_call if isinstance(speaker, PerCall) else frozenset()
        whole, streamed = (
            Head(
                "POST",
                base + speaker.path(self.endpoint, stream),
                [one for one in self.provider.headers(self.endpoint, self._credential, stream) if one[0] not in own],
            )
            for stream in (False, True)
        )
        return whole, streamed

    def barred(self, now: float, ask: Request | None = None) -> str:
        """Why it should not be asked now (a `Passed`); empty: it may be. `now` in seconds of the monotonic clock."""
        return self.condition.barred(now, self.heeds_breaker, ask)

    def candidate(self, now: float, ask: Request | None = None) -> Candidate:
        condition = self.condition
        if condition.quiet:
            barred, ramp = "", 1.0
        else:
            barred, ramp = self.barred(now, ask), condition.breaker.ramp(now) if self.heeds_breaker else 1.0
        return Candidate(
            self.name,
            self.weight,
            condition.in_flight,
            self.context_window,
            barred,
            condition.outstanding,
            condition.ttft(now),
            condition.breaker.share(now),
            condition.limits.share(now) if condition.limits is not None else 1.0,
            ramp,
            self.priority,
            self.lacks,
            None,
            None,
            condition.tpot,
            condition.recent,
        )

    def prices(self, hits: float = 0.0) -> tuple[float | None, float | None]:
        """USD per million tokens, of prompt and of answer. `hits`: share of the prompt that its cache has, 0 to 1."""
        return per_million(self.price.tariff if self.price is not None else None, hits)


def per_million(tariff: Tariff | None, hits: float = 0.0) -> tuple[float | None, float | None]:
    """USD per million tokens, of prompt and of answer; None where it is not known."""
    if tariff is None:
        return None, None
    rates = tariff.rates
    fresh, cached, output = rates.input * 1e6, rates.cache_read * 1e6, rates.output * 1e6
    if fresh != fresh or output != output:  # not a number: not known
        return None, None
    return (fresh if cached != cached else fresh + hits * (cached - fresh)), output


class Upstreams:
    """How all targets are, by where they lead. Kept over reloads; what nothing leads to any more is forgotten."""

    def __init__(self, clock: Clock, rng: Random) -> None:
        self.clock = clock
        self._rng = rng
        self._conditions: WeakValueDictionary[object, Condition] = WeakValueDictionary()
        self._credentials: WeakValueDictionary[object, Credential] = WeakValueDictionary()

    def condition(self, name: str, endpoint: Endpoint, secret: str | None) -> Condition:
        """That of the model behind this credential; `name` is what it is called if it is not known yet."""
        whose = _whose(endpoint, secret)
        where = (*whose, endpoint.model, endpoint.deployment)
        found = self._conditions.get(where)
        if found is None:
            # Without a key there is nothing that several models share.
            credential = self._credentials.setdefault(whose if secret else where, Credential())
            found = self._conditions[where] = Condition(name, credential, self._rng)
        return found

    def room(self, account: object) -> float:
        """The least that is left of any rate limit of a `Target.account`, as a share; 0 while it has been refused.

        1 where nobody uses it, or nothing is known.
        """
        credential = self._credentials.get(account)
        if credential is None:
            return 1.0
        now = self.clock.now() / SECOND
        return min([one.room(now) for one in list(credential.conditions)], default=1.0)

    def unbound(self) -> None:
        """Before a config is loaded, which sets its own bounds: those of the one before it are gone."""
        for condition in list(self._conditions.values()):
            if condition.turns is not None:
                condition.turns.limit, condition.turns.adapts = UNBOUND, None

    def forgive(self) -> None:
        """A config was loaded: what was left alone is asked again, since somebody may have mended it."""
        for condition in list(self._conditions.values()):
            condition.credential.until = condition.missing_until = condition.cooled_until = 0.0
            condition.breaker = Breaker()

    def snapshot(self) -> list[dict[str, Any]]:
        """How every target is, by name: for the page, the API and the metrics. May be called from another thread."""
        now = self.clock.now() / SECOND
        known = sorted(self._conditions.values(), key=lambda one: one.name)
        return [condition.shown(now) for condition in known]


def _whose(endpoint: Endpoint, secret: str | None) -> tuple[str, str, bytes]:
    """The account, without its secret."""
    return (endpoint.provider, endpoint.base_url, hashlib.sha256((secret or "").encode()).digest())


class DirectTargets:
    """Targets made on demand for `provider/model` requests that name no route.

    The client chooses the model's name, so what is kept is bounded.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], Sequence[Target]] = OrderedDict()

    def get(self, provider: str, model: str) -> Sequence[Target] | None:
        found = self._kept.get((provider, model))
        if found is not None:
            self._kept.move_to_end((provider, model))
        return found

    def keep(self, provider: str, model: str, targets: Sequence[Target]) -> None:
        self._kept[provider, model] = targets
        if len(self._kept) > DIRECT_LIMIT:
            self._kept.popitem(last=False)
