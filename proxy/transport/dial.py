"""From a name to a connected socket: all addresses, the next one tried while the first still hesitates (RFC 8305).

asyncio's own `happy_eyeballs_delay` loses a socket when it is cancelled at the wrong moment (seen with Python 3.11),
and uvloop does not have it; so the race is run here, and the loop is given a connected socket.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from itertools import chain, zip_longest
from typing import Any, NamedTuple

ATTEMPT_DELAY = 0.25
"""Seconds before the next address is tried beside those under way (RFC 8305, section 5)."""


class Address(NamedTuple):
    family: int
    sockaddr: Any


async def connected(host: str, port: int) -> socket.socket:
    """A connected, non-blocking socket. Raises OSError, of the address that was preferred, or UnicodeError.

    When cancelled, every socket is closed at once or in the next round of the loop.
    """
    loop = asyncio.get_running_loop()
    addresses = await _resolved(loop, host, port)
    if len(addresses) == 1:
        return await _one(loop, addresses[0])
    return await _race(loop, addresses)


async def _resolved(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[Address]:
    """Addresses in the resolver's order, families taking turns. No resolver is asked about a literal address."""
    try:
        version = ipaddress.ip_address(host).version if "%" not in host else 0
    except ValueError:
        version = 0
    if version:
        return [Address(socket.AF_INET if version == 4 else socket.AF_INET6, (host, port))]
    found = [Address(info[0], info[4]) for info in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if not found:
        raise OSError("the name has no address")
    first = [address for address in found if address.family == found[0].family]
    others = [address for address in found if address.family != found[0].family]
    return [address for address in chain.from_iterable(zip_longest(first, others)) if address is not None]


async def _one(loop: asyncio.AbstractEventLoop, address: Address) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, address.sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


async def _race(loop: asyncio.AbstractEventLoop, addresses: list[Address]) -> socket.socket:
    left = list(reversed(addresses))
    tries: list[asyncio.Task[socket.socket]] = []
    won: socket.socket | None = None
    try:
        while True:
            if left:
                tries.append(loop.create_task(_one(loop, left.pop())))
            running = [one for one in tries if not one.done()]
            if running:
                delay = ATTEMPT_DELAY if left else None
                await asyncio.wait(running, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            ended = [one for one in tries if one.done()]
            won = next((one.result() for one in ended if one.exception() is None), None)
            if won is not None:
                return won
            if len(ended) == len(addresses):
                raise tries[0].exception() or OSError("no address answers")
    finally:
        for one in tries:
            if not one.done():
                one.cancel()  # and closes its socket by itself
            elif not one.cancelled() and one.exception() is None and one.result() is not won:
                one.result().close()
