"""Ended requests and the engine's last words in; one JSON line per request out, and the widths of its brackets."""

import json
import math
import sys
from multiprocessing.connection import Connection as Pipe
from typing import Any
from typing import TextIO

from standin.frontend import Child
from standin.frontend import Prompt
from standin.messages import EventType
from standin.wire import Bracket
from standin.wire import Exchange
from standin.wire import Write


def later(one: Bracket, other: Bracket | None) -> Bracket:
    """The bracket of whichever instant is later."""
    return one if other is None else (max(one[0], other[0]), max(one[1], other[1]))


def nanoseconds(seconds: float) -> int:
    """The engine's float seconds, rounded as the agent rounds them."""
    return math.floor(seconds * 1e9 + 0.5)


class Case:
    """The truth about one request, while it is made."""

    def __init__(self, exchange: Exchange, method: str, path: str, x_request_id: str | None) -> None:
        self.exchange = exchange
        self.fields: dict[str, Any] = {"method": method, "path": path, "x_request_id": x_request_id}
        self.writes: dict[str, Write] = {}
        """By what was said; the first of each kind, but the latest as `last`."""
        self.prompts: list[Prompt] = []
        self.delivered: dict[Child, int] = {}
        self.content_writes = 0
        self.end: str | None = None
        """`complete`, `client_gone` or `server_closed`."""

    def wrote(self, kind: str, write: Write | None) -> None:
        """A response write was made."""
        if write is None:
            return
        self.writes.setdefault(kind, write)
        self.writes.setdefault("first_byte", write)
        self.writes["last"] = write

    def deliver(self, child: Child, tokens: int) -> None:
        """Tokens went into a response write."""
        self.delivered[child] = self.delivered.get(child, 0) + tokens


class Truth:
    """The truth file."""

    def __init__(self, path: str | None, core: Pipe, pids: tuple[int, int]) -> None:
        self._file: TextIO | None = open(path, "a", encoding="utf-8", buffering=1) if path else None
        self._core, self._pids = core, pids
        self._words: dict[str, dict[str, Any]] = {}
        self._ended: list[Case] = []
        self._widths: dict[str, list[int]] = {}
        self.lines = 0

    def end(self, case: Case, end: str) -> None:
        """The request is over; its line follows when everything about it has settled."""
        case.end = end
        self._ended.append(case)

    def listen(self) -> None:
        """Takes the engine's last words over."""
        while self._core.poll():
            try:
                word = json.loads(self._core.recv_bytes())
            except (EOFError, OSError):
                return
            self._words[word["id"]] = word

    def sweep(self, final: bool = False) -> None:
        """Writes the lines of all requests that have settled; at the end, of all."""
        self.listen()
        waiting = []
        for case in self._ended:
            if not final and (case.exchange.connection.tap.pending() or self._missing(case)):
                waiting.append(case)
            else:
                self._write(case)
        self._ended = waiting

    def settled(self) -> bool:
        """Whether every request that ended has its line."""
        return not self._ended

    def report(self) -> None:
        """The widths of all brackets, to stderr."""
        everything = [width for widths in self._widths.values() for width in widths]
        for name, widths in [*sorted(self._widths.items()), ("all", everything)]:
            if not widths:
                continue
            widths.sort()
            p50, p99 = (widths[min(len(widths) - 1, int(len(widths) * share))] / 1e3 for share in (0.5, 0.99))
            print(f"standin: {name}: {len(widths)} brackets, p50 {p50:.1f} us, p99 {p99:.1f} us", file=sys.stderr)
        print(f"standin: {self.lines} requests", file=sys.stderr, flush=True)

    def _missing(self, case: Case) -> bool:
        children = [child for prompt in case.prompts for child in prompt.children if not prompt.dead]
        return any(child.id not in self._words for child in children)

    def _write(self, case: Case) -> None:
        exchange, connection = case.exchange, case.exchange.connection
        if connection.refusal and not case.writes:
            case.wrote("head", connection.refusal)
            case.fields["status"], case.end = 400, "complete"
        last = case.writes["last"].last if "last" in case.writes else None
        gone = connection.gone or (connection.tap.touched, connection.tap.touched)
        exchange.finished = last if case.end == "complete" and last else gone
        previous = exchange.previous.finished if exchange.previous else None
        instants = {
            "accepted": later(exchange.begun, previous),
            "received": exchange.received and later(exchange.received, previous),
            "first_byte": case.writes["first_byte"].first if "first_byte" in case.writes else None,
            "finished": exchange.finished,
        }
        for name in ("comment", "role", "empty", "first_content"):
            instants[name] = case.writes[name].last if name in case.writes else None
        engine = [self._engine(case, child) for prompt in case.prompts for child in prompt.children]
        exchange.previous = None
        for name, bracket in instants.items():
            if bracket and not (name == "finished" and case.end != "complete"):
                self._widths.setdefault(name, []).append(bracket[1] - bracket[0])
        for one in engine:
            if one["added"]:
                self._widths.setdefault("added", []).append(one["added"][1] - one["added"][0])
        if not instants["first_byte"]:
            case.fields.pop("status", None)  # The head never left.
        line = {
            **case.fields,
            "pid": self._pids[0],
            "core_pid": self._pids[1],
            "fd": connection.fd,
            "end": case.end,
            "instants": instants,
            "waited": exchange.waited(),
            "input_tokens": sum(prompt.tokens for prompt in case.prompts) if case.prompts else None,
            "cached_tokens": sum(prompt.cached for prompt in case.prompts) if case.prompts else None,
            "output_tokens": sum(case.delivered.values()) if case.prompts else None,
            "content_writes": case.content_writes,
            "engine": engine,
        }
        self.lines += 1
        if self._file:
            self._file.write(json.dumps(line) + "\n")

    def _engine(self, case: Case, child: Child) -> dict[str, Any]:
        word = self._words.pop(child.id, {})
        marks = [(kind, nanoseconds(at)) for kind, at in word.get("marks", [])]
        first = {kind: at for kind, at in reversed(marks)}
        steps = [(nanoseconds(at), tokens) for at, tokens in word.get("steps", [])]
        taken = [(nanoseconds(at), tokens) for at, tokens in child.steps]
        return {
            "id": child.id,
            "external_id": child.prompt.external_id,
            "index": child.index,
            "added": word.get("added"),
            "aborted": word.get("aborted"),
            "queued": first.get(EventType.QUEUED),
            "scheduled": first.get(EventType.SCHEDULED),
            "preemptions": sum(kind == EventType.PREEMPTED for kind, _ in marks),
            "marks": marks,
            "steps": steps,
            "taken": taken,
            "prompt_tokens": word.get("prompt_tokens"),
            "cached_tokens": word.get("cached_tokens"),
            "engine_tokens": word.get("engine_tokens"),
            "delivered_tokens": case.delivered.get(child, 0),
            "finish": word.get("finish"),
            "finish_reason": child.finish,
        }
