"""What is known of one request: an `Exchange` with its `Attempt`s. The only thing that sinks ever see.

Both are filled while the request runs and handed to the bus once, sealed; from then on nobody writes to them. They
are plain slotted objects because one of each is made for every request. Times are monotonic nanoseconds, 0 where the
moment never came.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, Protocol

from policies.verdict import VERDICTS, Health, Kind, Outcome
from proxy.wire.chunk import Json
from proxy.wire.trace import Trace
from proxy.wire.usage import Usage


class Origin(StrEnum):
    LIVE = "live"
    SHADOW = "shadow"
    BENCH = "bench"
    BATCH = "batch"
    """A line of `/v1/batches`: worked off by a provider's batch API, or by us in the background."""


OPERATIONS = (
    "chat", "responses", "messages", "completions", "embeddings", "moderations", "rerank", "images", "speech",
    "transcriptions", "count_tokens",
)  # fmt: skip
"""What can be asked for: the closed set of `Exchange.operation`, as `wire.request.Request.operation` names it."""


class Marks:
    """The moments of an exchange or an attempt (monotonic nanoseconds; 0 = never).

    `scheduled` is set by load generators alone. For an exchange, `received` is the last byte of the client's request
    and `end` the last byte handed to the client; for an attempt, `received` is when it was begun and `end` when the
    upstream's part was over.
    """

    __slots__ = (
        "end",
        "first_answer",
        "first_byte",
        "first_content",
        "headers",
        "last_content",
        "received",
        "scheduled",
        "sent",
    )

    def __init__(self, received: int = 0) -> None:
        self.scheduled = 0
        self.received = received
        self.sent = 0
        self.headers = 0
        self.first_byte = 0
        self.first_content = 0
        self.first_answer = 0
        """First content that is no reasoning."""
        self.last_content = 0
        self.end = 0


class Gaps:
    """The pauses between content chunks of one stream, without keeping the chunks.

    `counts[i]` counts gaps by size, four classes an octave (see `proxy.measure.timing.gap_bound`); `long` holds the
    gaps over 500 ms exactly (ns, the first 64), because only those can be stalls.
    """

    __slots__ = ("chunks", "counts", "long", "max_ns")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.long: list[int] = []
        self.max_ns = 0
        self.chunks = 0

    def add(self, gap_ns: int, more: int = 0) -> None:
        """One gap, and `more` gaps of zero: chunks that came in the same read."""
        counts = self.counts
        if gap_ns < 8:
            index = 0
        else:
            octave = gap_ns.bit_length()
            index = octave * 4 + ((gap_ns >> (octave - 3)) & 3)
        counts[index] = counts.get(index, 0) + 1
        if more:
            counts[0] = counts.get(0, 0) + more
        if gap_ns > self.max_ns:
            self.max_ns = gap_ns
        if gap_ns > 500_000_000 and len(self.long) < 64:
            self.long.append(gap_ns)


class Attempt:
    """One try at one target."""

    __slots__ = (
        "answer_bytes",
        "cost_source",
        "cost_usd",
        "detail",
        "dropped",
        "finish_reason",
        "gaps",
        "hurried",
        "kind",
        "marks",
        "model",
        "no",
        "outcome",
        "price_version",
        "provider",
        "replayed",
        "request_bytes",
        "response_model",
        "retry_after",
        "sent",
        "status",
        "target",
        "trace_headers",
        "upstream_id",
        "usage",
        "usage_source",
        "wait_ns",
    )

    def __init__(self, no: int, target: str, provider: str, model: str, received: int) -> None:
        self.no = no
        """1, 2, ... within the exchange."""
        self.target = target
        self.provider = provider
        self.model = model
        """The model that was asked for upstream."""
        self.response_model: str | None = None
        self.upstream_id: str | None = None
        """The provider's own request id."""
        self.kind: Kind = Kind.OK
        self.outcome: Outcome = Outcome.OK
        self.status: int | None = None
        """HTTP status of the upstream; None if it never answered."""
        self.hurried = False
        """It was ended by the client's own limit of time, shorter than ours."""
        self.retry_after: float | None = None
        self.detail = ""
        self.dropped: tuple[str, ...] = ()
        """Parameters of the request that the target does not take and was not sent."""
        self.sent: Json | None = None
        """The parameters that were sent, in the target's own words; `wire.request.fingerprint` compares them."""
        self.marks = Marks(received)
        self.gaps: Gaps | None = None
        self.usage: Usage | None = None
        self.usage_source: str | None = None
        """`provider`; `partial` where the answer broke off after that; None where nothing was reported."""
        self.finish_reason: str | None = None
        self.cost_usd: float | None = None
        self.cost_source: str | None = None
        """`provider` (it said so), `table` or `config` (where the price is from); None where no price is known."""
        self.price_version: str | None = None
        """Which prices the cost was computed from."""
        self.trace_headers: tuple[tuple[bytes, bytes], ...] = ()
        """What was sent on of the client's trace, with this attempt's own span in it."""
        self.request_bytes = 0
        self.answer_bytes = 0
        self.replayed = False
        self.wait_ns = 0
        """Deliberate pause before this attempt (back-off)."""

    @property
    def health(self) -> Health:
        """What it says of the target. A client's own hurry says nothing: one could open a breaker for all."""
        if self.hurried:
            return Health.NEUTRAL
        if self.kind is Kind.AUTH and self.status == 403:
            # The key is known and may not do this: another model behind it is another matter.
            return Health.MISSING
        return VERDICTS[self.kind].health


class Decision(NamedTuple):
    """Why the targets were tried in this order."""

    policy: str
    propensity: float
    """Probability with which the first choice would come first, in [0, 1]."""
    candidates: tuple[str, ...]
    """The targets in the order of the plan."""
    passed_over: tuple[tuple[str, str], ...] = ()
    """(target, reason code of `policies.base.Passed`) for each that is not in the plan."""
    scores: tuple[float | None, ...] = ()
    """What the policy compared, for each of `candidates`; empty where it compares nothing."""
    propensities: tuple[float, ...] = ()
    """Each candidate's probability to come first; empty where the first one's was 1."""
    why: str = ""
    """What decided, where the policy's name does not tell."""
    unit: str = ""
    """The conversation, where the policy looked at it."""


class Exchange:
    """One client request and its answer."""

    __slots__ = (
        "answer_bytes",
        "at",
        "attempts",
        "decision",
        "id",
        "key",
        "kind",
        "marks",
        "model",
        "operation",
        "origin",
        "outcome",
        "parent_id",
        "relay_ns",
        "relays",
        "request_bytes",
        "route",
        "seq",
        "status",
        "stream",
        "tags",
        "trace",
        "winner",
    )

    def __init__(self, id: str, at: float, received: int, origin: Origin = Origin.LIVE) -> None:
        self.id = id
        self.seq = 0
        """Order of sealing within this process, from 1; set by the bus. The store's watermark counts these."""
        self.at = at
        """Wall time of arrival, seconds since the epoch (UTC)."""
        self.origin = origin
        self.parent_id: str | None = None
        self.key: str | None = None
        """Name of the client's key, never the key."""
        self.route: str | None = None
        """Route name, or None where the request named a target directly or nothing was found."""
        self.model = ""
        """The model name the client asked for, cut at 200 characters."""
        self.operation = ""
        """One of `OPERATIONS`."""
        self.stream = False
        self.decision: Decision | None = None
        self.attempts: list[Attempt] = []
        self.winner: Attempt | None = None
        """The attempt whose answer was sent on, whole or cut; None where none was."""
        self.outcome: Outcome = Outcome.OK
        self.kind: Kind = Kind.OK
        self.status = 0
        """HTTP status sent to the client; 0 if none was."""
        self.marks = Marks(received)
        self.relays = 0
        """How often content that was read was handed on to the client, streamed."""
        self.relay_ns = 0
        """From reading it to handing it on, all of them together."""
        self.tags: tuple[str, ...] = ()
        """What the client calls it by (`x-weighbridge-tags`), sorted."""
        self.trace: Trace | None = None
        """The trace that the client is in."""
        self.request_bytes = 0
        self.answer_bytes = 0


class Sink(Protocol):
    """Takes sealed exchanges on the event loop; must return at once and never raise."""

    def accept(self, exchange: Exchange) -> None: ...
