"""Moments as people write them on a command line: `24h` ago, or a date."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime

from proxy.config.problems import Wrong
from proxy.config.values import duration


def moment(text: str) -> float:
    """Seconds since the epoch, of `24h`, `7d`, `2026-11-26`, `2026-11-26T08:15` (UTC)."""
    try:
        return time.time() - duration(text)
    except Wrong:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a time: {text[:40]!r}; write 24h, 7d or 2026-11-26T08:15") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
