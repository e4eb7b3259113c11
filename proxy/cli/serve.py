"""`weighbridge serve`: the proxy."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib.util
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.config import Config, ConfigError, find
from proxy.config.known import is_loopback

if TYPE_CHECKING:
    from proxy.app import App

log = logging.getLogger("weighbridge")

_WATCH_SECONDS = 2.0
"""How often the config file is looked at for changes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="default: weighbridge.yaml, else what the environment has")
    parser.add_argument("--host", help="address to listen on (default: server.host, 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on, 0 for a free one (default: server.port, 8080)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes; only 1 in this version")
    parser.add_argument("--insecure", action="store_true", help="allow a public address without any key")
    parser.epilog = (
        "example:\n  weighbridge serve --config weighbridge.yaml --port 8080\n\n"
        "Saving the config file, or SIGHUP, loads it anew; a bad file is refused and the old one stays."
    )


def _has_keys(config: Config) -> bool:
    """In the config, or made by command in its store."""
    from proxy.measure.store.keys import stored

    return bool(config.keys) or (config.database is not None and bool(stored(config.database)))


def run(args: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if args.workers != 1:
        print(
            "This version serves with one worker: several behind one port would each know only their share.\n"
            "Start one for each port, with a `storage` of its own, and a load balancer in front.",
            file=sys.stderr,
        )
        return 2
    try:
        config = with_options(find(args.config), args.host, args.port)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    if not is_loopback(config.server.host) and not _has_keys(config) and not args.insecure:
        print(
            f"{config.server.host} can be reached from other machines, and no key is configured.\n"
            "Add `keys` to the config, make one with `weighbridge keys create NAME`, listen on 127.0.0.1,"
            " or pass --insecure if you mean it.",
            file=sys.stderr,
        )
        return 2
    if config.otel.endpoint is not None and importlib.util.find_spec("opentelemetry") is None:
        print("otel.endpoint needs OpenTelemetry.\npip install 'weighbridge[otel]'", file=sys.stderr)
        return 2
    for warning in config.warnings:
        log.warning("%s", warning)
    return serve(config, args)


def with_options(config: Config, host: str | None, port: int | None) -> Config:
    """The config with what the command line says over it."""
    changes = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    if not changes:
        return config
    return config.model_copy(update={"server": config.server.model_copy(update=changes)})


def serve(config: Config, args: argparse.Namespace) -> int:
    from proxy.app import App
    from proxy.web.server import Server, bind, loop_factory, server_config

    try:
        socket = bind(config.server.host, config.server.port)
    except OSError as error:
        print(
            f"Cannot listen on {config.server.host}:{config.server.port}: {error.strerror or error}.\n"
            "Stop what uses it, or choose another with --port.",
            file=sys.stderr,
        )
        return 2

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to load anew

    async def main() -> None:
        app = App(config)
        loop = asyncio.get_running_loop()
        ends: list[asyncio.Task[None]] = []

        async def end() -> None:
            log.info("draining: %d requests are running", len(app.engine.running))
            await app.drain(app.config.server.drain)
            server.should_exit = True

        def begin_drain() -> None:
            loop.call_soon_threadsafe(lambda: ends.append(loop.create_task(end())))

        calm_collector()
        server = Server(server_config(app, config.server.host, config.server.port, app.direct), begin_drain)
        reloads = loop.create_task(_watch(app, args))
        host, port = socket.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        log.info("weighbridge listens on http://%s:%d, config: %s", shown, port, config.source)
        try:
            await server.serve(sockets=[socket])
        finally:
            reloads.cancel()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main())
    return 0


def calm_collector() -> None:
    """What was loaded stays, and a request makes hundreds of objects but no cycles: look for garbage less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def _watch(app: App, args: argparse.Namespace) -> None:
    """Loads the config anew when its file was saved, or on SIGHUP."""
    again = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, again.set)
    path = Path(app.config.source)
    seen = _stamp(path)
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WATCH_SECONDS):
                await again.wait()
        stamp = _stamp(path)
        if (stamp != seen and stamp is not None) or again.is_set():
            again.clear()
            seen = stamp
            await asyncio.to_thread(_reload, app, args)


def _reload(app: App, args: argparse.Namespace) -> None:
    try:
        config = with_options(find(args.config), args.host, args.port)
    except ConfigError as error:
        log.error("the new config is refused, the old one stays:\n%s", error)
        return
    for warning in config.warnings:
        log.warning("%s", warning)
    old = app.config
    if _fixed(config) != _fixed(old):
        log.warning("server.host, server.port, storage and otel take effect at the next start")
    if not is_loopback(old.server.host) and not _has_keys(old) and not config.keys and not args.insecure:
        log.error("the new config is refused, the old one stays: it has no keys, and %s is public", old.server.host)
        return
    app.load(config)
    log.info("config loaded anew from %s", config.source)


def _fixed(config: Config) -> tuple[object, ...]:
    """What holds until the next start."""
    return config.server.host, config.server.port, config.storage, config.otel


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
