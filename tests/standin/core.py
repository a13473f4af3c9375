"""ADD and ABORT messages in, outputs messages and the engine's part of the truth out: the EngineCore process.

Threads and sockets are vLLM's: an input thread (DEALER), the busy loop, an output thread (PUSH).
"""

import ctypes
import gc
import json
import os
import queue
import signal
import threading
import time
from collections import deque
from typing import Any

import msgspec
import setproctitle
import zmq

from standin import messages
from standin.scenario import Scenario
from standin.scheduler import Killed
from standin.scheduler import Live
from standin.scheduler import Scheduler

IDENTITY = (0).to_bytes(2, "little")
REUSED_BUFFERS = 2
PR_SET_PDEATHSIG = 1


def main(scenario: Scenario, input_address: str, output_address: str, truth: Any) -> None:
    """Runs until it is terminated; `truth` is the pipe (a connection of multiprocessing) to the front end."""
    setproctitle.setproctitle(scenario.core_title)
    if scenario.core_outlives_seconds:
        signal.alarm(scenario.core_outlives_seconds)
    else:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Leaves at once: nothing of it outlives the front end, and a thread may hold the socket's lock.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    time.sleep(scenario.load_seconds)
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    aborts: queue.SimpleQueue[Any] = queue.SimpleQueue()
    outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(input_address, inbox, aborts), daemon=True).start()
    writer = threading.Thread(target=_write, args=(output_address, outbox), daemon=True)
    writer.start()
    gc.collect()
    gc.freeze()
    scheduler = Scheduler(scenario)
    try:
        while True:
            _take(scheduler, inbox)
            _step(scheduler, aborts, outbox)
            for live in scheduler.ended:
                truth.send_bytes(json.dumps(live.truth()).encode())
            scheduler.ended.clear()
    except Killed:
        outbox.put(messages.ENGINE_CORE_DEAD)
        writer.join(timeout=5)
        os._exit(1)


def _take(scheduler: Scheduler, inbox: "queue.SimpleQueue[Any]") -> None:
    """Moves what has arrived into the scheduler; waits when there is nothing to do."""
    while scheduler.asleep or not scheduler.live or not inbox.empty():
        kind, payload, read_ns = inbox.get()
        if kind == messages.ADD:
            scheduler.add(Live(payload, read_ns))
        elif kind == messages.UTILITY:
            scheduler.call(payload[2])
        else:
            scheduler.abort(payload, read_ns)


def _step(scheduler: Scheduler, aborts: "queue.SimpleQueue[Any]", outbox: "queue.SimpleQueue[Any]") -> None:
    batch = scheduler.schedule()
    time.sleep(scheduler.step_seconds(batch))
    while not aborts.empty():
        scheduler.abort(*aborts.get())
    outputs = scheduler.update(batch)
    at = time.monotonic()
    scheduler.stamp(outputs, at)
    stats = scheduler.stats()
    if outputs or stats:
        outbox.put(message(outputs, stats, at))
    if not scheduler.live and stats:
        outbox.put(message([], scheduler.stats(), time.monotonic()))


def message(outputs: list[messages.Output], stats: messages.SchedulerStats | None, at: float) -> messages.Outputs:
    """What a step sends."""
    return messages.Outputs(outputs=outputs, scheduler_stats=stats, timestamp=at, weight_version="default")


def _read(address: str, inbox: "queue.SimpleQueue[Any]", aborts: "queue.SimpleQueue[Any]") -> None:
    decode_add = msgspec.msgpack.Decoder(messages.Request).decode
    decode = msgspec.msgpack.Decoder().decode
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.IDENTITY, IDENTITY)
        socket.connect(address)
        socket.send(msgspec.msgpack.encode({"status": "READY"}))
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        while True:
            poller.poll()
            before = time.monotonic_ns()
            kind, *frames = socket.recv_multipart(copy=False)
            kind = bytes(kind.buffer)
            payload = (decode_add if kind == messages.ADD else decode)(frames[0].buffer)
            read_ns = (before, time.monotonic_ns())
            if kind == messages.ABORT:
                aborts.put((payload, read_ns))
            inbox.put((kind, payload, read_ns))


def _write(address: str, outbox: "queue.SimpleQueue[Any]") -> None:
    encoder = messages.Encoder()
    free: list[bytearray] = []
    pending: deque[tuple[zmq.MessageTracker, bytearray]] = deque()
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.LINGER, 4000)
        socket.connect(address)
        while True:
            outputs = outbox.get()
            if outputs == messages.ENGINE_CORE_DEAD:
                socket.send(outputs)
                return
            # A buffer is used again only when ZeroMQ has let go of it, as in vLLM.
            while pending and pending[-1][0].done:
                buffer = pending.pop()[1]
                if len(free) < REUSED_BUFFERS:
                    free.append(buffer)
            frames = encoder.encode_into(outputs, free.pop() if free else bytearray())
            more = zmq.SNDMORE if len(frames) > 1 else 0
            tracker = socket.send(frames[0], more, copy=False, track=True)
            if more:
                socket.send_multipart(frames[1:], copy=False)
            pending.appendleft((tracker, frames[0]))
