"""A scripted upstream for demos, tests and failover drills: start a `Simulated`, tell it which `Fault` to show."""

from proxy.simulated.faults import FAULTS, Fault, FaultKind, Phase
from proxy.simulated.latency import Latency, Tokens
from proxy.simulated.server import DIALECTS, Simulated
from proxy.simulated.stats import Stats

__all__ = ["DIALECTS", "FAULTS", "Fault", "FaultKind", "Latency", "Phase", "Simulated", "Stats", "Tokens"]
