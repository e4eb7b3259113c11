"""Configuration: a file or the environment -> one frozen, validated `Config`, or every problem in it at once."""

from proxy.config.load import find, find_records, from_environment, load, parse
from proxy.config.model import (
    Capture,
    Config,
    Defaults,
    FailoverOn,
    Key,
    Otel,
    OwnCapture,
    Policy,
    Prices,
    Provider,
    Retention,
    Retries,
    Route,
    Server,
    Target,
    Timeouts,
)
from proxy.config.problems import ConfigError, Problem
from proxy.config.schema import json_schema
from proxy.config.values import KeyDigest, Secret

__all__ = [
    "Capture",
    "Config",
    "ConfigError",
    "Defaults",
    "FailoverOn",
    "Key",
    "KeyDigest",
    "Otel",
    "OwnCapture",
    "Policy",
    "Prices",
    "Problem",
    "Provider",
    "Retention",
    "Retries",
    "Route",
    "Secret",
    "Server",
    "Target",
    "Timeouts",
    "find",
    "find_records",
    "from_environment",
    "json_schema",
    "load",
    "parse",
]
