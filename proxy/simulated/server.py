"""The simulated upstream: a real HTTP/1.1 server on a real socket that answers as a provider would, or fails as told.

It needs no network and no key. The same seed and the same requests give the same bytes.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from random import Random
from types import TracebackType
from typing import Any

import orjson

from proxy.simulated.answer import Complaint, Wanted, digest, plan
from proxy.simulated.anthropic import Anthropic
from proxy.simulated.batches import Batches
from proxy.simulated.bedrock import Bedrock
from proxy.simulated.cohere import Cohere
from proxy.simulated.connection import Connection, Planned
from proxy.simulated.dialect import Dialect, Request, Rules, error_headers
from proxy.simulated.faults import FAULTS, Fault, Phase, faults_of, pick
from proxy.simulated.gemini import Gemini, Vertex
from proxy.simulated.latency import Latency, Tokens
from proxy.simulated.openai import OpenAI
from proxy.simulated.reply import Part, Reply, Tag
from proxy.simulated.schema import Unsatisfiable
from proxy.simulated.spoil import Spoiling, spoil, spoil_plan
from proxy.simulated.stats import Stats

DIALECTS: dict[str, Callable[[], Dialect]] = {
    "openai": OpenAI,
    "anthropic": Anthropic,
    "bedrock": Bedrock,
    "cohere": Cohere,
    "gemini": Gemini,
    "vertex": Vertex,
}

_FULL = Fault.parse("http_429")
"""What a request gets that comes when `capacity` are under way."""

_AT_ONCE = (Phase.CONNECT, Phase.BEFORE_HEADERS, Phase.STATUS)
"""Faults of these phases do not wait as long as an answer takes."""


class Simulated:
    """A simulated upstream on a port of its own.

    `ttft` and `itl` are seconds or text (`200ms`, `100ms..300ms`, `lognormal(200ms,0.4)`), `tokens` a number or a
    range (`20..80`), `faults` objects or text (`http_503:0.3`, `cut_mid_stream=after:3#2`). The first fault in the
    list that applies to a request is the one that it gets. `models`: the names that are known; every name, if empty.
    `strict`: unknown request fields are refused; `refused`: so are these. `keep`: how many requests `requests` holds.
    `capacity`: requests under way at once; one more is answered with a 429. None: no limit.

    Raises ValueError for what cannot be read.
    """

    def __init__(
        self,
        dialect: str = "openai",
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        name: str = "simulated",
        seed: int = 0,
        ttft: str | float | Latency = 0.0,
        itl: str | float | Latency = 0.0,
        tokens: str | int | Tokens = 20,
        faults: Iterable[Fault | str] = (),
        models: Sequence[str] = (),
        api_key: str | None = None,
        strict: bool = False,
        skill: float | None = None,
        capacity: int | None = None,
        refused: Sequence[str] = (),
        keep: int = 1000,
    ) -> None:
        if dialect not in DIALECTS:
            raise ValueError(f"unknown dialect {dialect!r}; there are {', '.join(DIALECTS)}")
        self.dialect = DIALECTS[dialect]()
        self.host = host
        self.port = port
        self.name = name
        self.seed = seed
        self.ttft = Latency.of(ttft)
        self.itl = Latency.of(itl)
        self.tokens = Tokens.of(tokens)
        self.skill = None if skill is None else _share(skill)
        self.bias: dict[str, float] = {}
        self.capacity = _capacity(capacity)
        self.rules = Rules(tuple(models), api_key, strict, tuple(refused))
        self.stats = Stats()
        self.batches = Batches(dialect, self._alone)
        self.requests: deque[Request] = deque(maxlen=keep)
        """The last requests to the API, oldest first."""
        self.stopping = False
        self._started = False
        self._number = 0
        self._turn = 0
        self._faults = faults_of(faults)
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._server: asyncio.Server | None = None
        self._opening: asyncio.Task[None] | None = None
        self._reserved: socket.socket | None = None
        self._reopen: asyncio.TimerHandle | None = None

    @property
    def base_url(self) -> str:
        """With the dialect's prefix, ready for a client: `http://127.0.0.1:PORT/v1`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}{self.dialect.prefix}"

    # What it does.

    @property
    def faults(self) -> tuple[Fault, ...]:
        return self._faults

    @faults.setter
    def faults(self, given: Iterable[Fault | str]) -> None:
        """Counts requests for `#N` anew. Raises ValueError, and then keeps the faults that it had."""
        self._faults = faults_of(given)
        self._turn = 0
        if self._started:
            self._open_or_close()

    def change(self, **settings: Any) -> None:
        """Set any of these meanwhile; all or, with a ValueError, none."""
        readers: dict[str, Callable[[Any], Any]] = {
            "faults": faults_of, "ttft": Latency.of, "itl": Latency.of, "tokens": Tokens.of,
            "skill": _share, "bias": _bias, "capacity": _capacity,
        }  # fmt: skip
        unknown = [key for key in settings if key not in readers]
        if unknown:
            raise ValueError(f"unknown setting {unknown[0]!r}; there are {', '.join(readers)}")
        for key, value in {key: readers[key](value) for key, value in settings.items()}.items():
            setattr(self, key, value)

    def settings(self) -> dict[str, Any]:
        return {
            "dialect": self.dialect.name,
            "name": self.name,
            "seed": self.seed,
            "ttft": str(self.ttft),
            "itl": str(self.itl),
            "tokens": str(self.tokens),
            "skill": self.skill,
            "bias": self.bias,
            "capacity": self.capacity,
            "faults": [str(fault) for fault in self._faults],
        }

    # The listening socket.

    async def start(self) -> None:
        """Listen. Raises OSError where the port cannot be had."""
        self.stopping = False
        self._reserved = self._bound()
        self.port = self._reserved.getsockname()[1]
        self._started = True
        self._open_or_close()
        if self._opening is not None:
            await self._opening

    async def stop(self) -> None:
        """Close the port and every connection, finished or not."""
        self.stopping = True
        self._started = False
        if self._reopen is not None:
            self._reopen.cancel()
        if self._opening is not None:
            await self._opening
        if self._server is not None:
            self._server.close()
        if self._reserved is not None:
            self._reserved.close()
        for connection in list(self._connections):
            connection.abort()
        await self._empty.wait()
        if self._server is not None:
            await self._server.wait_closed()
        self._server = self._opening = self._reserved = self._reopen = None

    async def __aenter__(self) -> Simulated:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _bound(self) -> socket.socket:
        """The port, taken but not listening: connections to it are refused."""
        sock = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self.host, self.port))
            sock.setblocking(False)
        except OSError:
            sock.close()
            raise
        return sock

    @property
    def _refusing(self) -> Fault | None:
        return next((fault for fault in self._faults if fault.kind == "refuse" and fault.always), None)

    def _open_or_close(self) -> None:
        """Bring the port into the state that the faults ask for."""
        if self._reopen is not None:
            self._reopen.cancel()
            self._reopen = None
        refusing = self._refusing
        if refusing is None and self._server is None and self._opening is None:
            # Listening starts here and now, so that no client is refused once the fault is gone.
            sock, self._reserved = self._reserved or self._bound(), None
            sock.listen(1024)
            self._opening = asyncio.get_running_loop().create_task(self._serve(sock))
        elif refusing is not None:
            if self._server is not None:
                self._shut(self._server)
            if refusing.seconds is not None:
                self._reopen = asyncio.get_running_loop().call_later(refusing.seconds, self._forgive)

    async def _serve(self, sock: socket.socket) -> None:
        server = await asyncio.get_running_loop().create_server(lambda: Connection(self), sock=sock, backlog=1024)
        if self._refusing is None:
            self._server = server
        else:
            self._shut(server)
        self._opening = None

    def _shut(self, server: asyncio.Server) -> None:
        server.close()
        self._server = None
        self._reserved = self._bound()
        self.stats.faults["refuse"] += 1
        for connection in list(self._connections):
            if connection.idle:
                connection.abort()

    def _forgive(self) -> None:
        self.faults = tuple(fault for fault in self._faults if not (fault.kind == "refuse" and fault.always))

    # What a connection asks.

    def accept(self, connection: Connection) -> bool:
        self.stats.connections += 1
        self.stats.open += 1
        self._connections.add(connection)
        self._empty.clear()
        fault = pick(self._faults, self.seed, self._turn + 1)
        if fault is None or fault.kind != "refuse":
            return not self.stopping
        self._turn += 1
        self.stats.faults["refuse"] += 1
        return False

    def lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self.stats.open -= 1
        if not self._connections:
            self._empty.set()

    def respond(self, request: Request) -> Planned:
        if request.path in _OWN_PATHS:
            return Planned(_OWN_PATHS[request.path](self, request), None)
        self.requests.append(request)
        if self.dialect.answers(request.method, request.path):
            return self._answer(request)
        self.stats.others += 1
        try:
            batch = self.batches.serve(request)
            return Planned(self.dialect.other(request, self.rules) if batch is None else batch, None)
        except Complaint as complaint:
            return Planned(self._complain(complaint), None)

    def _answer(self, request: Request) -> Planned:
        self._number += 1
        self._turn += 1
        self.stats.requests += 1
        self.stats.running += 1
        try:
            reply, fault = self._reply(request)
        except Complaint as complaint:
            return Planned(self._complain(complaint), "rejected")
        if fault is not None:
            self.stats.faults[fault.kind] += 1
        return Planned(reply, "answered" if fault is None or fault.harmless else "broken")

    def _skill(self, wanted: Wanted) -> float | None:
        """A question that holds a word of `bias` is answered that well and no better."""
        shares = [share for word, share in self.bias.items() if word.encode() in wanted.key]
        return self.skill if not shares else min(shares)

    def _read(self, request: Request) -> Wanted:
        """A request that no dialect foresaw is the asker's fault, as with real providers."""
        try:
            return self.dialect.read(request, self.rules)
        except (TypeError, AttributeError, LookupError) as error:
            raise Complaint(400, f"The request could not be read: {error}") from error

    def _reply(self, request: Request) -> tuple[Reply, Fault | None]:
        fault = self._fault(request)
        wanted = self._read(request)
        self.stats.streams += wanted.stream
        try:
            answer = plan(
                wanted,
                seed=self.seed,
                number=self._number,
                source=self.name,
                tokens=self.tokens,
                skill=self._skill(wanted),
            )
        except Unsatisfiable as error:
            raise Complaint(400, f"Invalid schema: {error}", code="invalid_json_schema") from error
        rng = Random(digest(self.seed, "latency", self._number))
        at_once = fault is not None and FAULTS[fault.kind].phase in _AT_ONCE
        wait = 0.0 if at_once else self.ttft.draw(rng)
        if not wanted.stream and not at_once:
            wait += sum(self.itl.draw(rng) for _ in range(answer.completion_tokens - 1))
        answer = answer._replace(wait=wait)
        if fault is not None:
            answer = spoil_plan(fault, answer)
        reply = (self.dialect.stream if wanted.stream else self.dialect.whole)(wanted, answer)
        contents = [part for part in reply.parts if part.tag is Tag.CONTENT]
        for part in contents[1:]:
            part.pause = self.itl.draw(rng) or None
        if fault is not None:
            spoil(reply, Spoiling(fault, self.dialect, wanted, answer))
        return reply, fault

    def _alone(self, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        """A line of a batch, answered as a request of its own; status 0 where a fault leaves no whole answer."""
        self._number += 1
        self._turn += 1
        headers = {"x-api-key": "batch", "anthropic-version": "2023-06-01", "x-goog-api-key": "batch"}
        if self.rules.api_key is not None:
            headers |= {"x-api-key": self.rules.api_key, "x-goog-api-key": self.rules.api_key}
            headers["authorization"] = f"Bearer {self.rules.api_key}"
        request = Request("POST", path, {**headers, "content-type": "application/json"}, orjson.dumps(body), body)
        try:
            reply, fault = self._reply(request)
        except Complaint as complaint:
            return complaint.status, self.dialect.error(complaint)
        if fault is not None:
            self.stats.faults[fault.kind] += 1
            if not fault.harmless and FAULTS[fault.kind].phase != "status":
                return 0, b""
        return reply.status, b"".join([part.data for part in reply.parts])

    def _fault(self, request: Request) -> Fault | None:
        told = request.headers.get("x-sim-fault")
        if self.capacity is not None and self.stats.running > self.capacity:
            return _FULL
        if told is None:
            return pick(self._faults, self.seed, self._turn)
        try:
            fault = Fault.parse(told)
        except ValueError as error:
            raise Complaint(400, f"x-sim-fault: {error}") from error
        if not fault.always:
            raise Complaint(400, "x-sim-fault: it is for this request; leave out the rate and the number")
        return fault

    def _complain(self, complaint: Complaint) -> Reply:
        headers = [("content-type", "application/json"), *error_headers(self.dialect, complaint)]
        return Reply(complaint.status, headers, [Part(self.dialect.error(complaint))])

    # Its own paths, beside the API.

    def _control(self, request: Request) -> Reply:
        if request.method == "GET":
            return _json(200, self.settings())
        if not isinstance(request.json, dict):
            return _json(400, {"error": "the body is no JSON object"})
        try:
            self.change(**request.json)
        except ValueError as error:
            return _json(400, {"error": str(error)})
        return _json(200, self.settings())

    def _show_stats(self, request: Request) -> Reply:
        return _json(200, self.stats.as_json())

    def _reset_stats(self, request: Request) -> Reply:
        if request.method != "POST":
            return _json(405, {"error": "POST resets the counts"})
        self.stats.reset()
        return _json(200, self.stats.as_json())

    def _show_requests(self, request: Request) -> Reply:
        shown = [{**one._asdict(), "body": one.body.decode("utf-8", "replace")} for one in self.requests]
        return _json(200, {"requests": shown})

    def _healthz(self, request: Request) -> Reply:
        return _json(200, {"status": "ok", "name": self.name})


def _json(status: int, body: object) -> Reply:
    return Reply(status, [("content-type", "application/json")], [Part(orjson.dumps(body))])


_OWN_PATHS: dict[str, Callable[[Simulated, Request], Reply]] = {
    "/control": Simulated._control,
    "/stats": Simulated._show_stats,
    "/stats/reset": Simulated._reset_stats,
    "/requests": Simulated._show_requests,
    "/healthz": Simulated._healthz,
}


def _bias(value: object) -> dict[str, float]:
    """Raises ValueError unless it is words with a share each."""
    if not isinstance(value, dict):
        raise ValueError(f'bias is words and the skill for them, such as {{"Amina": 0.5}}, not {value!r}')
    return {str(word): _share(share) for word, share in value.items()}


def _capacity(value: object) -> int | None:
    """Raises ValueError unless it is a whole number from 1, or null for no limit."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"capacity is a whole number from 1, or null for no limit, not {value!r}")
    return value


def _share(value: object) -> float:
    """Raises ValueError unless it is a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"skill is a number from 0 to 1, not {value!r}")
    return float(value)
