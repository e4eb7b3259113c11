"""The rules that decide. Standard library only; no clock, no I/O, no state of their own."""

from __future__ import annotations

from policies.base import Policy
from policies.ordered import Ordered

POLICIES: dict[str, type[Policy]] = {
    "ordered": Ordered,
}
"""Every policy by the name that a config gives it. A new one is a file, a class and a row here."""
