"""The drill that users can run, in a short form. Only counts are judged: on a busy machine nothing is on time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_a_dead_and_a_stalling_provider_are_not_seen_before_content() -> None:
    faults = ("--fault", "kill", "--fault", "stall")
    times = ("--seconds", "1.5", "--after", "3", "--overload", "0", "--clients", "10", "--pause", "0.2")
    drill = [sys.executable, str(REPOSITORY / "examples" / "failover_drill.py"), *faults, *times]
    done = subprocess.run(drill, capture_output=True, text=True, cwd=REPOSITORY, timeout=110)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()]
    assert [row[0] for row in rows[2:]] == ["kill", "stall"], done.stderr
    for _, _, n, early, _, more, _ in rows[2:]:
        assert int(n) > 20
        assert int(early) == 0
        assert float(more.rstrip("%")) <= 20.0
