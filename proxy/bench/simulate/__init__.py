"""Tries a config on simulated targets: the real router, engine, policies and health, under virtual time.

Only the targets are made up: `target.py` puts queues, latencies, limits and faults behind the transport interface.
`run.simulate` plays traffic through the engine and gives back every exchange; an hour of traffic takes seconds, and
the same seed gives the same trace, byte for byte. An answer comes in two pieces, its first token and all the others, so
that a route's `stall` should be longer than answers take.
"""

from __future__ import annotations

from proxy.bench.simulate.run import Result, Traffic, simulate
from proxy.bench.simulate.target import Fault, Figures

__all__ = ["Fault", "Figures", "Result", "Traffic", "simulate"]
