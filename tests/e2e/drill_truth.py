"""How far the recorded latencies are from the truth, in milliseconds: `python -m tests.e2e.drill_truth`.

A scripted upstream waits as told; a client measures by itself on the other side. Run it on a quiet machine: what is
shown as a difference is the proxy's own time, the machine's, and the script's own lateness (`sleep` is never early).
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

from tests import processes
from tests.e2e.scripted import Scene, scripted

COUNT = 200
GAPS_S = (0.02,) * 10


def main() -> None:
    scenes = [Scene(ttft_s=0.05 + 0.001 * (number % 50), gaps_s=GAPS_S) for number in range(COUNT)]
    with tempfile.TemporaryDirectory() as folder, scripted(scenes) as upstream:
        config = {
            "providers": {"one": {"base_url": upstream.base_url, "api_key": None}},
            "routes": {"chat": {"targets": ["one/m"]}},
        }
        seen: dict[str, float] = {}
        with processes.proxy(config, Path(folder)) as proxy:
            for number in range(COUNT):
                body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": str(number)}]}
                begun = time.perf_counter()
                answer = proxy.ask("/v1/chat/completions", json.dumps(body).encode())
                seen[answer.headers["x-request-id"]] = (time.perf_counter() - begun) * 1e3
        rows = processes.rows(Path(folder), "SELECT id, ttft_ms, e2e_ms, max_gap_ms, stall_count FROM v_exchanges")
    by_id = {row["id"]: row for row in rows}
    ordered = [by_id[id] for id in seen]
    for name, differences in (
        ("TTFT, recorded - scripted", [r["ttft_ms"] - s.ttft_s * 1e3 for r, s in zip(ordered, scenes, strict=True)]),
        ("largest gap, recorded - scripted", [row["max_gap_ms"] - max(GAPS_S) * 1e3 for row in ordered]),
        ("E2E, client's own - recorded", [ms - by_id[id]["e2e_ms"] for id, ms in seen.items()]),
    ):
        p99 = statistics.quantiles(differences, n=100)[98]
        print(f"{name:34} median {statistics.median(differences):6.2f} ms, p99 {p99:6.2f} ms")
    print(f"stalls recorded: {sum(row['stall_count'] for row in ordered)} (scripted: none)")


if __name__ == "__main__":
    main()
