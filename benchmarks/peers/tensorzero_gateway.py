"""Runs the HTTP gateway inside the `tensorzero` wheel, under the Python that has it; no public command starts it.

    python tensorzero_gateway.py CONFIG ADDRESS_FILE      # the gateway picks its port and the file tells which

The start function is private to the wheel: seen in 2026.6.0, it may be gone in another version.
"""

import sys
import threading
from pathlib import Path

from tensorzero import tensorzero

gateway = tensorzero._start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
Path(sys.argv[2]).write_text(gateway.base_url)
threading.Event().wait()
