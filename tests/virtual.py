"""An event loop whose time is virtual, for tests; the same one that simulations run under."""

from __future__ import annotations

from proxy.bench.simulate.virtual import VirtualLoop, run_virtually

__all__ = ["VirtualLoop", "run_virtually"]
