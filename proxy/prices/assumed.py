"""What is taken for granted where a price is not known: dearer than what is common, so that a budget is kept anyway."""

from __future__ import annotations

ASSUMED_INPUT, ASSUMED_OUTPUT = 20e-6, 100e-6
"""USD a token."""
BYTES_PER_TOKEN = 4.0
"""Of requests and answers whose tokens nobody counted."""
