"""The HTTP server: uvicorn, with the orderly end that a proxy needs."""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import socket
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import uvicorn

from proxy.web.connection import Connection, Endpoint

BACKLOG = 2048
"""Connections that wait to be accepted."""


class Server(uvicorn.Server):
    """Ends in order: the first signal calls `begin_drain`, which ends with `should_exit`. The second calls it again,
    for an end without waiting; further ones do without it.
    """

    def __init__(self, config: uvicorn.Config, begin_drain: Callable[[], None]) -> None:
        super().__init__(config)
        self._begin_drain = begin_drain
        self._signals = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals <= 2:
            self._begin_drain()
        else:
            self.should_exit = True
            self.force_exit = self._signals > 3


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises `OSError` where there is no such address, or it is taken or not ours.

    Listening begins here, so that another process finds the port taken, and no client is refused while we start.
    """
    if not 0 <= port <= 65535:
        raise OSError(errno.EINVAL, "ports go from 0 to 65535")
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, proto)
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
    except BaseException:
        bound.close()
        raise
    return bound


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed: it writes an answer's head and body in one system call."""
    try:
        import uvloop
    except ImportError:
        return None
    new: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return new


def server_config(app: Any, host: str, port: int, direct: Mapping[bytes, Endpoint] | None = None) -> uvicorn.Config:
    """`direct`: see `Connection`."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=functools.partial(Connection, direct=direct),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        loop="auto",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
        backlog=BACKLOG,
    )
