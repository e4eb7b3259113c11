"""`kill -9` at any moment: the file opens clean, and what was said to be committed is there."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from random import Random

from tests.measure.store.conftest import ask

ROUNDS = 20

_WRITING = """if True:
    import sys, time
    from proxy.measure.store.writer import StoreSink
    from proxy.record import Attempt, Exchange
    sink, name, said = StoreSink.open(sys.argv[1]), sys.argv[2], 0
    assert sink.degraded is None, sink.degraded
    for seq in range(1, 1_000_000):
        made = Exchange(f"{name}-{seq}", 1_790_000_000.0, 1)
        made.attempts.append(Attempt(1, "a/b", "a", "b", 1))
        made.seq = seq
        sink.accept(made)
        if seq % 25 == 0:
            time.sleep(0.002)
        if sink.committed.seq != said:
            said = sink.committed.seq
            print(said, flush=True)
"""


def test_every_committed_record_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    rng = Random(20)
    for number in range(ROUNDS):
        command = [sys.executable, "-c", _WRITING, str(path), f"round{number}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = [int(process.stdout.readline()) for _ in range(rng.randint(1, 6))]
            time.sleep(rng.random() * 0.05)
            process.kill()
            # What it could still say before it died counts as well.
            said += [int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        assert process.returncode == -9
        assert ask(path, "PRAGMA integrity_check") == [("ok",)]
        kept = [seq for (seq,) in ask(path, "SELECT seq FROM v_exchanges WHERE id LIKE ?", f"round{number}-%")]
        assert sorted(kept) == list(range(1, len(kept) + 1))
        assert len(kept) >= said[-1] > 0
    (exchanges,) = ask(path, "SELECT count(*), count(DISTINCT id) FROM v_exchanges")
    assert exchanges[0] == exchanges[1]
    assert ask(path, "SELECT count(*) FROM v_attempts") == [(exchanges[0],)]
