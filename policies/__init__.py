"""The rules that decide. Standard library only; no clock, no I/O, no state of their own."""

from __future__ import annotations

from policies.bandit import Bandit
from policies.base import Policy
from policies.canary import Canary
from policies.cheapest import Cheapest
from policies.conditional import Conditional
from policies.fastest import Fastest
from policies.least_loaded import LeastLoaded
from policies.ordered import Ordered
from policies.round_robin import RoundRobin
from policies.sticky import Sticky
from policies.weighted import Weighted

POLICIES: dict[str, type[Policy]] = {
    "ordered": Ordered,
    "weighted": Weighted,
    "round_robin": RoundRobin,
    "least_loaded": LeastLoaded,
    "fastest": Fastest,
    "cheapest": Cheapest,
    "sticky": Sticky,
    "conditional": Conditional,
    "canary": Canary,
    "bandit": Bandit,
}
"""Every policy by the name that a config gives it. A new one is a file, a class and a row here."""
