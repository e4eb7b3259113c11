"""Takes batches through their states: submitted, waited for, put together. One task, which may die at any time.

What was done is written down before and after each step, so that a restart goes on where it stopped. Whether a
submission that was cut off in the middle reached the provider cannot be known; it is never sent again, and its lines
are told to be unanswered.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Generator, Sequence
from random import Random
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import orjson

from policies.verdict import VERDICTS, Kind
from proxy.batches import lines
from proxy.batches.lines import Answered, Asked
from proxy.batches.shelf import Shelf
from proxy.call import call
from proxy.engine import Engine
from proxy.errors import Refusal, UpstreamError
from proxy.measure.bus import Bus
from proxy.prices.tariff import charge
from proxy.providers.azure import account_path
from proxy.providers.base import Minted
from proxy.providers.batch import BATCHING, NATIVE, Batching, Call, Result
from proxy.record import Attempt, Exchange, Origin
from proxy.router import Router
from proxy.transport.base import Head, UpstreamRequest
from proxy.upstreams import Target
from proxy.wire.chat import ChatRequest
from proxy.wire.request import CHAT

log = logging.getLogger(__name__)

Json = dict[str, Any]
T = TypeVar("T")

CALL_SECONDS = 300.0
"""For one call to a provider; a file of 200 MB may be on its way."""
ANSWER_LIMIT = 1 << 30
ABREAST = 4
"""Lines that are worked off at once where a provider has no batch API."""
PATIENCE = 20
"""Steps in a row that may fail for a passing reason before a part is given up."""
EMULATE = "weighbridge_emulate"
"""The member of `metadata` that allows lines to be worked off one by one at the ordinary price."""

_PASSING = {Kind.CONNECT, Kind.SERVER_ERROR, Kind.TIMEOUT, Kind.RATE_LIMIT, Kind.MALFORMED, Kind.TRUNCATED}
_ENDED = ("completed", "failed", "expired", "cancelled")


class _Part(NamedTuple):
    """The lines of a batch that go to one target."""

    target: Target
    native: Batching | None
    numbers: list[int]


class Keeper:
    def __init__(
        self,
        shelf: Shelf,
        router: Callable[[], Router],
        engine: Engine,
        bus: Bus,
        poll_seconds: float = 30.0,
    ) -> None:
        """`router`: the one of the config that holds now. `engine`: for lines that are worked off one by one."""
        self.shelf = shelf
        self._router = router
        self._engine = engine
        self._bus = bus
        self._poll_seconds = poll_seconds
        self._wake = asyncio.Event()
        self._ids = Random(os.urandom(32))  # noqa: S311  (names, not secrets)

    # -- what the door asks

    async def add_file(self, content: bytes, name: str, purpose: str, key: str | None) -> Json:
        about = {
            "id": f"file-{self._ids.getrandbits(96):024x}",
            "object": "file",
            "bytes": len(content),
            "created_at": int(self._engine.clock.wall()),
            "filename": name,
            "purpose": purpose,
            "status": "processed",
            "key": key,
        }
        await asyncio.to_thread(self.shelf.put, about, content)
        return about

    async def create(self, wanted: Json, key: str | None, direct: bool) -> Json:
        """A new batch. Raises `Refusal`: what cannot be asked as a whole is not begun."""
        file = await self.owned("file", wanted.get("input_file_id"), key)
        content = await asyncio.to_thread(self.shelf.content, file["id"])
        asked = await asyncio.to_thread(lines.read, content or b"")
        metadata = wanted.get("metadata") or {}
        parts = self._parts(asked, direct, str(metadata.get(EMULATE, "")).lower() == "true")
        now = int(self._engine.clock.wall())
        about = {
            "id": f"batch_{self._ids.getrandbits(96):024x}",
            "object": "batch",
            "endpoint": lines.ENDPOINT,
            "errors": None,
            "input_file_id": file["id"],
            "completion_window": "24h",
            "status": "in_progress",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": now,
            "in_progress_at": now,
            "expires_at": now + 86400,
            "finalizing_at": None,
            "completed_at": None,
            "failed_at": None,
            "expired_at": None,
            "cancelling_at": None,
            "cancelled_at": None,
            "request_counts": {"total": len(asked), "completed": 0, "failed": 0},
            "metadata": metadata,
            "key": key,
            "direct": direct,
            "parts": [
                {"target": part.target.name, "native": part.native is not None, "numbers": part.numbers, "state": "new"}
                for part in parts
            ],
        }
        await asyncio.to_thread(self.shelf.put, about)
        self._wake.set()
        return about

    async def owned(self, kind: str, id: object, key: str | None) -> Json:
        """Raises `Refusal` (404) for what is not there, or belongs to another key."""
        about = await asyncio.to_thread(self.shelf.about, id) if isinstance(id, str) else None
        if about is None or about["object"] != kind or about["key"] != key:
            what = "file" if kind == "file" else "batch"
            raise Refusal(404, f"There is no {what} {str(id)[:100]!r}.", param="id", code="not_found")
        return about

    async def cancel(self, id: str, key: str | None) -> Json:
        about = await self.owned("batch", id, key)
        if about["status"] not in _ENDED:
            about |= {"status": "cancelling", "cancelling_at": int(self._engine.clock.wall())}
            await asyncio.to_thread(self.shelf.put, about)
            self._wake.set()
        return about

    def _parts(self, asked: Sequence[Asked], direct: bool, emulate: bool) -> list[_Part]:
        chosen: dict[str, _Part] = {}
        for number, one in enumerate(asked):
            route = self._router().find(one.ask.model, direct)
            native = next((target for target in route.targets if batching(target) is not None), None)
            target = native or route.targets[0]
            if native is None and not emulate:
                raise Refusal(
                    400,
                    f"No target of {one.ask.model!r} has a batch API. Send `metadata: {{{EMULATE!r}: 'true'}}` to have "
                    "its lines worked off one by one at the ordinary price.",
                    param="model",
                    code="no_batch_api",
                )
            part = chosen.setdefault(target.name, _Part(target, batching(target) if native else None, []))
            part.numbers.append(number)
        return list(chosen.values())

    # -- the task

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            self._wake.clear()
            for about in await asyncio.to_thread(lambda: list(self.shelf.every("batch"))):
                if about["status"] not in _ENDED:
                    try:
                        await self.step(about)
                    except Exception:
                        log.exception("batch %s cannot go on; it is tried again later", about["id"])
            try:
                async with asyncio.timeout(self._poll_seconds):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def step(self, about: Json) -> None:
        """Does what can be done now for one batch."""
        asked = await asyncio.to_thread(lambda: lines.read(self.shelf.content(about["input_file_id"]) or b""))
        for place, part in enumerate(about["parts"]):
            if part["state"] not in ("ended", "lost"):
                await self._part(about, place, part, asked)
        latest = self.shelf.about(about["id"])
        if latest is not None and latest["status"] == "cancelling":
            about |= {"status": "cancelling", "cancelling_at": latest["cancelling_at"]}
        if all(part["state"] in ("ended", "lost") for part in about["parts"]):
            await self._finish(about, asked)
        else:
            done = sum(part.get("done", 0) for part in about["parts"])
            about["request_counts"]["completed"] = min(done, about["request_counts"]["total"])
            await self._save(about)

    async def _part(self, about: Json, place: int, part: Json, asked: Sequence[Asked]) -> None:
        target = self._target(part["target"], asked[part["numbers"][0]].ask, about["direct"])
        if target is None:
            self._lost(part, "the target is no longer in the config", "target_gone")
            return
        native = batching(target) if part["native"] else None
        try:
            if part["native"] and native is None:
                self._lost(part, "the target has no batch API any more", "target_gone")
            elif native is None:
                await self._worked_off(about, place, part, asked)
            elif part["state"] == "new":
                await self._submit(about, place, part, target, native, asked)
            elif part["state"] == "submitting":
                self._lost(part, "the proxy stopped while it was submitted; it is not sent twice", "submission_unknown")
            else:
                await self._poll(about, place, part, target, native, asked)
            part.pop("trouble", None)
        except UpstreamError as error:
            trouble = part["trouble"] = part.get("trouble", 0) + 1
            log.warning("batch %s at %s: %s %s", about["id"], target.name, error.kind, error.detail)
            if error.kind not in _PASSING or trouble >= PATIENCE:
                self._lost(part, f"the provider failed: {error.kind}", str(error.kind))
        await self._save(about)

    async def _submit(
        self, about: Json, place: int, part: Json, target: Target, native: Batching, asked: Sequence[Asked]
    ) -> None:
        if about["status"] == "cancelling":
            self._lost(part, "cancelled before it was submitted", "batch_cancelled")
            return
        told, refused = lines.built(target.provider, target.endpoint, [(n, asked[n]) for n in part["numbers"]])
        self._keep(about, place, refused)
        if not told:
            part["state"] = "ended"
            return
        part["state"] = "submitting"
        await self._save(about)
        try:
            part["upstream"] = await self._steps(target, native.submit(target.endpoint, told))
        except UpstreamError as error:
            # Refused, or never sent: nothing was taken. Anything else may have been, and stays `submitting`.
            if error.status is not None or error.kind is Kind.CONNECT:
                part["state"] = "new"
            raise
        part["state"] = "submitted"

    async def _poll(
        self, about: Json, place: int, part: Json, target: Target, native: Batching, asked: Sequence[Asked]
    ) -> None:
        if about["status"] == "cancelling" and not part.get("cancelled"):
            await self._send(target, native.cancel(target.endpoint, part["upstream"]))
            part["cancelled"] = True
        standing = await self._steps(target, native.poll(target.endpoint, part["upstream"]))
        part["done"] = standing.done
        if not standing.ended:
            return
        if standing.failed is not None:
            self._lost(part, standing.failed, "batch_failed")
            return
        results = await self._steps(target, native.fetch(target.endpoint, standing))
        by_id = {f"i{number}": asked[number] for number in part["numbers"]}
        created = int(self._engine.clock.wall())
        found: list[Answered] = []
        for result in results:
            one = by_id.pop(result.id, None)  # one that is answered twice, or was never asked, is left out
            if one is not None:
                minted = Minted(f"chatcmpl-{about['id'][6:]}{result.id}", created)
                found.append(self._recorded(about, target, one, result, minted))
        self._keep(about, place, found)
        part["state"] = "ended"

    def _recorded(self, about: Json, target: Target, asked: Asked, result: Result, minted: Minted) -> Answered:
        """The answer, and a record of it: its tokens at the price of a batch, and no latency but the batch's own."""
        answered = lines.answered(target.provider, target.endpoint, asked, result, minted)
        now = self._engine.clock.now()
        exchange = Exchange(minted.id, about["created_at"], now, Origin.BATCH)
        exchange.parent_id, exchange.key, exchange.model = about["id"], about["key"], asked.ask.model[:200]
        exchange.operation = asked.ask.operation
        exchange.status = answered.line["response"]["status_code"]
        attempt = Attempt(1, target.name, target.endpoint.provider, target.endpoint.model, now)
        attempt.status, attempt.usage = result.status, answered.usage
        attempt.finish_reason, attempt.response_model = answered.finish_reason, answered.response_model
        if answered.usage is not None:
            attempt.usage_source = "provider"
            tariff = target.price.tariff if target.price is not None else None
            found = charge(tariff.tiers.get("batch") if tariff is not None else None, answered.usage)
            attempt.cost_usd, attempt.cost_source, attempt.price_version = found
        if answered.ok:
            exchange.winner = attempt
        else:
            error = target.provider.error(result.status, (), orjson.dumps(result.body))
            attempt.kind, attempt.outcome = error.kind, VERDICTS[error.kind].outcome
            exchange.kind, exchange.outcome = attempt.kind, attempt.outcome
        attempt.marks.end = exchange.marks.end = now
        exchange.attempts.append(attempt)
        self._bus.publish(exchange)
        answered.line["weighbridge"] = {"target": target.name, "cost_usd": attempt.cost_usd}
        return answered

    async def _worked_off(self, about: Json, place: int, part: Json, asked: Sequence[Asked]) -> None:
        """One by one through the engine, a few abreast; what is answered is kept as it comes."""
        part["state"] = "submitted"
        have = {one["custom_id"] for one in self._kept(about, place)}
        left = iter([n for n in part["numbers"] if asked[n].custom_id not in have])

        async def worker() -> None:
            for number in left:
                latest = await asyncio.to_thread(self.shelf.about, about["id"])
                if latest is None or latest["status"] == "cancelling":
                    return
                one = asked[number]
                router = self._router()
                plan = router.plan(router.find(one.ask.model, about["direct"]), one.ask)
                called = await call(self._engine, one.ask, plan, parent=about["id"], key=about["key"])
                exchange = called.exchange
                if exchange.kind is Kind.OK:
                    found = lines.served(one.custom_id, 200, called.data)
                else:
                    found = lines.failed(one.custom_id, UpstreamError(exchange.kind, "batch", str(exchange.kind)))
                served = exchange.winner.target if exchange.winner is not None else None
                costs = [attempt.cost_usd for attempt in exchange.attempts if attempt.usage is not None]
                cost = sum(one for one in costs if one is not None) if costs and None not in costs else None
                found.line["weighbridge"] = {"target": served, "cost_usd": cost}
                self._keep(about, place, [found])
                part["done"] = part.get("done", 0) + 1

        async with asyncio.TaskGroup() as group:
            for _ in range(ABREAST):
                group.create_task(worker())
        part["state"] = "ended"

    async def _finish(self, about: Json, asked: Sequence[Asked]) -> None:
        """All parts are over: output and error file, counts, the last state."""
        found: dict[str, Json] = {}
        for place, part in enumerate(about["parts"]):
            for line in self._kept(about, place):
                found.setdefault(line["custom_id"], line)
            why, code = part.get("why") or ("no answer came before the batch ended", "batch_expired")
            for number in part["numbers"]:
                custom_id = asked[number].custom_id
                found.setdefault(custom_id, lines.unanswered(custom_id, why, code).line)
        good: list[Json] = []
        bad: list[Json] = []
        for number, one in enumerate(asked):
            line = {"id": f"batch_req_{about['id'][6:]}_{number}", **found[one.custom_id]}
            response = line["response"]
            (good if response is not None and response["status_code"] == 200 else bad).append(line)
        for name, told in (("output_file_id", good), ("error_file_id", bad)):
            if told:
                content = b"".join(orjson.dumps(line) + b"\n" for line in told)
                file = await self.add_file(content, f"{about['id']}_{name[:-8]}.jsonl", "batch_output", about["key"])
                about[name] = file["id"]
        status = "cancelled" if about["status"] == "cancelling" else "completed"
        now = int(self._engine.clock.wall())
        about |= {"status": status, f"{status}_at": now, "finalizing_at": now}
        about["request_counts"] |= {"completed": len(good), "failed": len(bad)}
        await asyncio.to_thread(self.shelf.put, about)
        for place in range(len(about["parts"])):
            self._partial(about, place).unlink(missing_ok=True)

    # -- what lies in between

    def _partial(self, about: Json, place: int) -> Any:
        return self.shelf.folder / f"{about['id']}.part{place}.jsonl"

    def _keep(self, about: Json, place: int, found: Sequence[Answered]) -> None:
        if found:
            with self._partial(about, place).open("ab") as file:
                file.write(b"".join(orjson.dumps(one.line) + b"\n" for one in found))

    def _kept(self, about: Json, place: int) -> list[Json]:
        path = self._partial(about, place)
        raw = path.read_bytes() if path.exists() else b""
        return [orjson.loads(line) for line in raw.splitlines(keepends=True) if line.endswith(b"\n")]

    @staticmethod
    def _lost(part: Json, why: str, code: str) -> None:
        part |= {"state": "lost", "why": [why, code]}

    async def _save(self, about: Json) -> None:
        """But for a wish to cancel that came meanwhile, which stays."""
        latest = await asyncio.to_thread(self.shelf.about, about["id"])
        if latest is not None and latest["status"] == "cancelling":
            about |= {"status": "cancelling", "cancelling_at": latest["cancelling_at"]}
        await asyncio.to_thread(self.shelf.put, about)

    def _target(self, name: str, ask: ChatRequest, direct: bool) -> Target | None:
        try:
            route = self._router().find(ask.model, direct)
        except Refusal:
            return None
        return next((target for target in route.targets if target.name == name), None)

    async def _steps(self, target: Target, steps: Generator[Call, bytes, T]) -> T:
        body: bytes | None = None
        while True:
            try:
                wanted = next(steps) if body is None else steps.send(body)
            except StopIteration as end:
                found: T = end.value
                return found
            if wanted.pause:
                await asyncio.sleep(wanted.pause)
            body = await self._send(target, wanted)

    async def _send(self, target: Target, wanted: Call) -> bytes:
        """The body of a good answer. Raises `UpstreamError`."""
        fixed = [pair for pair in target.head(CHAT, False).headers if pair[0] not in (b"content-type", b"accept")]
        path = urlsplit(target.endpoint.base_url).path.rstrip("/") + wanted.path
        head = Head(wanted.method, path, [*fixed, (b"content-type", wanted.content_type)])
        try:
            async with asyncio.timeout(CALL_SECONDS):
                connection = target.transport.idle(target.origin) or await target.transport.connect(target.origin)
                reply = await connection.send(UpstreamRequest(head, wanted.body, replay=wanted.method == "GET"))
                parts, size = [], 0
                try:
                    while True:
                        data, _ = await reply.read()
                        if not data:
                            break
                        size += len(data)
                        if size > ANSWER_LIMIT:
                            raise UpstreamError(Kind.MALFORMED, "batch", "an answer of more than 1 GiB")
                        parts.append(data)
                except BaseException:
                    reply.abort()
                    raise
                reply.release()
        except TimeoutError:
            raise UpstreamError(Kind.TIMEOUT, "deadline", "no answer to a call of the batch API") from None
        if reply.status >= 300:
            raise target.provider.error(reply.status, reply.headers, b"".join(parts))
        return b"".join(parts)


def batching(target: Target) -> Batching | None:
    """The target's batch API; None where it has none, or is only said to be compatible with one that has."""
    if target.sign is not None:
        return None
    dialect = target.provider.dialect
    if dialect == "openai" and target.endpoint.known not in NATIVE:
        return None
    if dialect == "azure" and account_path(target.endpoint, "") is None:
        return None
    return BATCHING.get(dialect)
