"""Runs `python -m proxy …` in a process that ends when the demo does, however the demo ends.

Standard input is a pipe that the demo holds open and never writes to; its end is the demo's end, a `kill -9` included.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def _end_with_the_demo() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_demo, daemon=True).start()
    runpy.run_module("proxy", run_name="__main__", alter_sys=True)
