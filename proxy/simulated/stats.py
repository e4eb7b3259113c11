"""What a simulated upstream has counted."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import Any

_KEPT = 1000


class Stats:
    """Counts since the start or the last `reset`.

    Every request for an answer ends as exactly one of answered, rejected, broken, cancelled or stopped; until then it
    is running: `requests == answered + rejected + broken + cancelled + stopped + running`, but for a reset between.
    """

    def __init__(self) -> None:
        self.connections = 0
        """Accepted, those refused by a fault included."""
        self.open = 0
        """Connections open now; `reset` leaves it alone."""
        self.running = 0
        """Requests whose answer has not ended; `reset` leaves it alone."""
        self.requests = 0
        """For an answer of a model; requests on other paths are `others`."""
        self.streams = 0
        self.answered = 0
        """Whole answers, handed to the socket to the last byte; harmless faults included."""
        self.rejected = 0
        """Refused because the request itself was at fault."""
        self.broken = 0
        """A fault that is not harmless ran to its end."""
        self.cancelled = 0
        """The client closed before the answer had ended; a client that gives up on silence is one."""
        self.stopped = 0
        """Still running when the simulator was stopped."""
        self.others = 0
        self.faults: Counter[str] = Counter()
        """Applied, by kind."""
        self.cancelled_at: deque[int] = deque(maxlen=_KEPT)
        """`time.perf_counter_ns` of the last cancellations, as this process saw them."""
        self.bytes_in = 0
        self.bytes_out = 0

    def ended(self, how: str) -> None:
        """One running request ended as `answered`, `rejected`, `broken`, `cancelled` or `stopped`."""
        self.running -= 1
        setattr(self, how, getattr(self, how) + 1)
        if how == "cancelled":
            self.cancelled_at.append(time.perf_counter_ns())

    def reset(self) -> None:
        fresh = Stats()
        fresh.open, fresh.running = self.open, self.running
        vars(self).update(vars(fresh))

    def as_json(self) -> dict[str, Any]:
        shown = dict(vars(self))
        shown["faults"] = dict(self.faults)
        shown["cancelled_at"] = list(self.cancelled_at)
        return shown
