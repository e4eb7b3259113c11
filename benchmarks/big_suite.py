"""A large suite, killed in the middle and gone on with: is anything lost, asked twice, or counted differently?

    python benchmarks/big_suite.py [--prompts 500] [--repeats 3] [--concurrency 50]

Four simulated upstreams, each of its own dialect, are asked everything by `weighbridge bench run`, which is killed
(SIGKILL) at two fifths of the way and then resumed. Prints the counts of the client's rows, the store, Parquet and the
upstreams beside each other, and the resumed command's peak memory. Exit status 1 if they do not agree. (A machine that
is busy otherwise makes the run itself invalid; the counts must agree all the same.)
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "proxy"]
DIALECTS = ("openai", "anthropic", "gemini", "cohere")


def upstream(dialect: str, seed: int) -> tuple[subprocess.Popen[str], str]:
    words = ["upstream", "--dialect", dialect, "--name", dialect, "--seed", str(seed), "--skill", "0.8"]
    words += ["--ttft", "lognormal(60ms,0.4)", "--itl", "2ms", "--tokens", "8"]
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    address = next(word for word in line.split() if word.startswith("http://")).rstrip("/.,")
    return process, address


def written(folder: Path, addresses: dict[str, str], args: argparse.Namespace) -> tuple[Path, Path]:
    cases = [{"prompt": f"What is {n} + {3 * n}?", "answer": str(4 * n)} for n in range(args.prompts)]
    suite = folder / "suite.json"
    targets = [f"{dialect}/m" for dialect in addresses]
    task = {"data": cases, "scorers": ["numeric"]}
    suite.write_text(
        json.dumps(
            {
                "name": "big",
                "targets": targets,
                "tasks": {"sums": task},
                "sampling": {"temperature": 0, "max_tokens": 64},
                "repeats": args.repeats,
                "concurrency": args.concurrency,
            }
        )
    )
    config = folder / "weighbridge.json"
    providers = {
        dialect: {"dialect": dialect, "base_url": address, "api_key": "k"} for dialect, address in addresses.items()
    }
    prices = {target: {"input": 1.0, "output": 2.0} for target in targets}
    store = f"sqlite:///{folder / 'exchanges.db'}"
    config.write_text(json.dumps({"storage": store, "providers": providers, "prices": prices}))
    return suite, config


def rows_in(folder: Path) -> list[dict[str, Any]]:
    found = list((folder / "bench-runs").glob("*/results.jsonl"))
    return [json.loads(line) for line in found[0].read_bytes().splitlines() if line.endswith(b"}")] if found else []


def lines_in(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in (folder / "bench-runs").glob("*/results.jsonl"))


def asked(address: str) -> int:
    with urllib.request.urlopen(f"{address.removesuffix('/v1')}/stats") as answer:
        return int(json.load(answer)["requests"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=50)
    args = parser.parse_args()
    started = [upstream(dialect, seed) for seed, dialect in enumerate(DIALECTS, 1)]
    addresses = {dialect: address for dialect, (_, address) in zip(DIALECTS, started, strict=True)}
    try:
        with tempfile.TemporaryDirectory() as made:
            return carried_out(Path(made), addresses, args)
    finally:
        for process, _ in started:
            process.terminate()
            process.wait()


def carried_out(folder: Path, addresses: dict[str, str], args: argparse.Namespace) -> int:
    suite, config = written(folder, addresses, args)
    total = args.prompts * args.repeats * len(addresses)
    words = [*COMMAND, "bench", "run", str(suite), "--config", str(config), "--format", "json"]
    began = time.monotonic()
    first = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while lines_in(folder) < total * 2 // 5 and first.poll() is None:
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = len(rows_in(folder))
    second = subprocess.Popen(
        [*words, "--resume", "last"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(second.pid, 0)
    second.returncode = os.waitstatus_to_exitcode(status)
    rows = rows_in(folder)
    places = Counter((row["target"], row["case"], row["repeat"]) for row in rows)
    named = {row["exchange_id"] for row in rows}
    with sqlite3.connect(folder / "exchanges.db") as connection:
        stored = {id for (id,) in connection.execute("SELECT id FROM v_exchanges WHERE origin = 'bench'")}
    import pyarrow.parquet as pq

    (parquet,) = (folder / "bench-runs").glob("*/results.parquet")
    in_parquet = pq.read_metadata(parquet).num_rows
    upstreams = {dialect: asked(address) for dialect, address in addresses.items()}
    most = total // len(addresses) + args.concurrency
    told = {
        "requests wanted": total,
        "rows when it was killed": before,
        "rows": len(rows),
        "asked twice": sum(count - 1 for count in places.values()),
        "failed": sum(row["outcome"] != "ok" for row in rows),
        "Parquet": in_parquet,
        "rows whose record the kill took from the store": len(named - stored),
        "records of requests that were under way at the kill": len(stored - named),
        "upstreams": upstreams,
        "exit status": second.returncode,
        "seconds": round(time.monotonic() - began, 1),
        "peak memory of the resumed run, MB": round(used.ru_maxrss / 1024),
    }
    (manifest,) = (folder / "bench-runs").glob("*/run.json")
    told["what makes it invalid"] = json.loads(manifest.read_bytes())["invalid"] or "nothing"
    for name, value in told.items():
        print(f"{name}: {value}")
    agree = (
        before < total
        and len(rows) == len(places) == in_parquet == total
        and len(named - stored) <= before
        and all(total // len(addresses) <= count <= most for count in upstreams.values())
    )
    print("counts agree" if agree else "COUNTS DIFFER")
    return 0 if agree and second.returncode in (0, 4) else 1


if __name__ == "__main__":
    sys.exit(main())
