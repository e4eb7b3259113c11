"""`python -m tests.simulator table`: every scenario at its full length, as Markdown."""

from __future__ import annotations

import sys

import tests.simulator.routing
import tests.simulator.whole  # noqa: F401  (both add their scenarios)
from tests.simulator.table import main

if sys.argv[1:] != ["table"]:
    sys.exit("usage: python -m tests.simulator table")
main()
