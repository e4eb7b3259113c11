"""`weighbridge upstream`: a simulated provider that answers, or fails, as told."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import textwrap

from proxy.simulated import DIALECTS, FAULTS, Simulated


def add_arguments(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("--dialect", choices=sorted(DIALECTS), default="openai", help="default: openai")
    option("--host", default="127.0.0.1", help="default: 127.0.0.1")
    option("--port", type=int, default=0, help="default: a free one")
    option("--name", default="simulated", help="shows in answers, as system_fingerprint fp_NAME")
    option("--ttft", default="0", metavar="TIME", help="until the answer begins: 200ms, 100ms..300ms or "
           "lognormal(200ms,0.4) (median, sigma); default: 0")  # fmt: skip
    option("--itl", default="0", metavar="TIME", help="between tokens, written likewise; default: 0")
    option("--tokens", default="20", metavar="N", help="tokens of an answer, or a range such as 20..80; default: 20")
    option("--skill", type=float, metavar="SHARE", help="it works out sums such as 12 + 30 in the question, and this "
           "share of them rightly (0 to 1); default: it does not")  # fmt: skip
    option("--capacity", type=int, metavar="N", help="requests under way at once; one more is answered with a 429; "
           "default: no limit")  # fmt: skip
    option("--fault", action="append", default=[], metavar="KIND[=VALUE][:RATE|#N]", help="may be given several times")
    option("--seed", type=int, default=0, help="same seed, same answers and same faults; default: 0")
    option("--model", action="append", default=[], metavar="NAME", help="a model that is known; default: every name")
    option("--api-key", metavar="KEY", help="demand this key; default: none")
    option("--refuse", action="append", default=[], metavar="FIELD", help="refuse requests with this field (openai)")
    option("--strict", action="store_true", help="refuse request fields that the API does not know")
    parser.epilog = (
        "example:\n"
        "  weighbridge upstream --port 9001 --ttft 200ms --itl 10ms --tokens 50 --fault http_503:0.3\n"
        "  weighbridge upstream --fault cut_mid_stream=after:3#1-5 --fault http_429=retry_after:2:10%\n"
        '  curl -d \'{"faults": ["http_500"], "ttft": "2s"}\' http://127.0.0.1:9001/control\n'
        "  curl http://127.0.0.1:9001/stats\n\n"
        "faults:\n" + _faults()
    )


def _faults() -> str:
    lines = []
    for name, kind in FAULTS.items():
        written = f"{name}[={kind.takes}]" if kind.takes else name
        whole = " (the answer is whole)" if kind.harmless else ""
        lines += [
            f"  {written}",
            textwrap.fill(kind.meaning + whole, 100, initial_indent=" " * 6, subsequent_indent=" " * 6),
        ]
    return "\n".join(lines)


def run(args: argparse.Namespace) -> int:
    """0 when ended by SIGINT or SIGTERM, 2 for arguments or a port that cannot be used."""
    if not 0 <= args.port <= 65535:
        return _wrong(f"there is no port {args.port}", "choose one from 0 (any free one) to 65535")
    try:
        simulated = Simulated(
            args.dialect, host=args.host, port=args.port, name=args.name, seed=args.seed, ttft=args.ttft,
            itl=args.itl, tokens=args.tokens, faults=args.fault, models=args.model, api_key=args.api_key,
            strict=args.strict, refused=args.refuse, skill=args.skill, capacity=args.capacity,
            keep=100,
        )  # fmt: skip
    except ValueError as error:
        return _wrong(str(error), "see weighbridge upstream --help")
    try:
        asyncio.run(_serve(simulated))
    except OSError as error:
        reason = error.strerror or str(error)
        return _wrong(
            f"cannot listen on {args.host}:{args.port}: {reason}", "choose another --port, or 0 for a free one"
        )
    return 0


def _wrong(what: str, mend: str) -> int:
    print(f"{what}\n{mend}", file=sys.stderr)
    return 2


async def _serve(simulated: Simulated) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    async with simulated:
        print(f"simulated upstream {simulated.name} ({simulated.dialect.name}) on {simulated.base_url}", flush=True)
        await ended.wait()
