"""A command line in; the two processes of a vLLM that is none, serving until their time is up."""

import argparse
import asyncio
import contextlib
import functools
import gc
import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import uvicorn
import uvloop

from standin import core
from standin import scenario as scenarios
from standin.app import App
from standin.frontend import Engine
from standin.truth import Truth
from standin.wire import Connection

SWEEP_SECONDS = 0.05
SETTLE_SECONDS = 2.0


def main(arguments: list[str]) -> int:
    """`vllm serve …`."""
    parser = argparse.ArgumentParser(prog="vllm", description=__doc__)
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("--host", default="127.0.0.1")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--port", type=int)
    place.add_argument("--uds", help="a Unix socket to serve on")
    parser.add_argument("--tls-cert", help="PEM; with --tls-key, serves HTTPS")
    parser.add_argument("--tls-key", help="PEM")
    parser.add_argument("--scenario", help="JSON file; see scenario.py")
    parser.add_argument("--truth", help="JSON lines are appended to this file")
    parser.add_argument("--seconds", type=float, help="ends by itself after so long")
    parser.add_argument("--nice", type=int, default=-10, help="priority, if permitted: keeps brackets narrow")
    options = parser.parse_args(arguments)

    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, options.nice)
    scenario = scenarios.read(options.scenario)
    directory = tempfile.mkdtemp(prefix="standin-")
    addresses = [f"ipc://{directory}/{name}" for name in ("input", "output")]
    # The core starts before there is a loop or a thread here, so that it may also be forked.
    context = multiprocessing.get_context(scenario.start_method)
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=core.main, args=(scenario, *addresses, writer), daemon=True)
    process.start()
    writer.close()
    try:
        truth = Truth(options.truth, reader, (os.getpid(), process.pid or 0))
        uvloop.run(_serve(options, scenario, addresses, truth, process.sentinel))
    finally:
        process.terminate()
        process.join()
        shutil.rmtree(directory, ignore_errors=True)
    return 0


async def _serve(
    options: argparse.Namespace, scenario: scenarios.Scenario, addresses: list[str], truth: Truth, sentinel: int
) -> None:
    engine = Engine(*addresses)
    await engine.start()
    config = uvicorn.Config(
        App(engine, scenario, truth),
        host=options.host,
        port=options.port or 0,
        uds=options.uds,
        http=functools.partial(Connection, send_buffer_bytes=scenario.send_buffer_bytes),
        ws="none",
        lifespan="off",
        log_level="critical",
        access_log=False,
        timeout_graceful_shutdown=1,
        ssl_certfile=options.tls_cert and Path(options.tls_cert),
        ssl_keyfile=options.tls_key and Path(options.tls_key),
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.should_exit = True

    def core_left() -> None:
        loop.remove_reader(sentinel)
        engine.die()

    loop.add_reader(sentinel, core_left)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    if options.seconds:
        loop.call_later(options.seconds, stop)
    gc.collect()
    gc.freeze()
    sweeper = asyncio.create_task(_sweep(truth))
    await server.serve()
    sweeper.cancel()
    for _ in range(int(SETTLE_SECONDS / SWEEP_SECONDS)):
        await asyncio.sleep(SWEEP_SECONDS)
        truth.sweep()
        if truth.settled():
            break
    truth.sweep(final=True)
    truth.report()


async def _sweep(truth: Truth) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        truth.sweep()


class _Server(uvicorn.Server):
    """uvicorn's server; signals are ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
