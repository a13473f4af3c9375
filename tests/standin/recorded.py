"""Recordings of a real vLLM in; whether our messages for the same requests have their shape, out.

A shape: what stands at each position and under each key, and of what type. Values, and the order of keys,
may differ. `python -m standin recorded FOLDER` fails where they differ, and says where that is.
"""

import itertools
from pathlib import Path
from typing import Any

import msgspec

from standin import core
from standin import frontend
from standin import messages
from standin import openai
from standin.scenario import Scenario
from standin.scheduler import Live
from standin.scheduler import Scheduler

SUFFIX = "-01234567"
ABSENT = "absent"


def shape(value: Any) -> Any:
    """The shape of a decoded message; a list of numbers is one thing, however long."""
    if isinstance(value, dict):
        return {key: shape(part) for key, part in value.items()}
    if isinstance(value, list):
        return "numbers" if all(type(part) is int for part in value) else [shape(part) for part in value]
    if isinstance(value, msgspec.msgpack.Ext):
        return f"ext {value.code}"
    return type(value).__name__


def differences(ours: Any, theirs: Any, at: str) -> list[str]:
    """The places where two shapes differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = sorted(ours.keys() | theirs.keys())
        pairs = [(f"{at}.{key}", ours.get(key, ABSENT), theirs.get(key, ABSENT)) for key in keys]
    elif isinstance(ours, list) and isinstance(theirs, list):
        both = itertools.zip_longest(ours, theirs, fillvalue=ABSENT)
        pairs = [(f"{at}[{index}]", *pair) for index, pair in enumerate(both)]
    else:
        return [] if ours == theirs else [f"{at}: ours {ours}, recorded {theirs}"]
    return [found for place, left, right in pairs for found in differences(left, right, place)]


class Made:
    """What we would send for one of the recorded requests."""

    def __init__(self, name: str, request: dict[str, Any]) -> None:
        scenario = Scenario(model=request["body"]["model"])
        ask = openai.read(request["path"], msgspec.json.encode(request["body"]), name, scenario)
        params = ask.params(ask.tokens[0], scenario)
        prompt = frontend.Prompt(ask.external_id(0), ask.tokens[0], params, ask.stop, 1)
        self.add = frontend.request(prompt, prompt.external_id + SUFFIX, pooling=False)
        scheduler = Scheduler(scenario)
        scheduler.add(Live(self.add, (0, 0)))
        self.steps = []
        at = 1.0
        while scheduler.live:
            outputs = scheduler.update(scheduler.schedule())
            scheduler.stamp(outputs, at)
            self.steps.append(core.message(outputs, scheduler.stats(), at))
            at += 1.0


def main(arguments: list[str]) -> int:
    """`python -m standin recorded FOLDER`."""
    folder = Path(arguments[0])
    requests = msgspec.json.decode((folder.parent / "requests.json").read_bytes())
    chat, logprobs = (Made(name, requests[name]) for name in ("recorded-chat", "recorded-logprobs"))
    found = []
    for name, ours in (
        ("add", chat.add),
        ("abort", [chat.add.request_id]),
        ("first", chat.steps[0]),
        ("last", chat.steps[-1]),
        ("logprobs", logprobs.steps[0]),
    ):
        sent = bytes(messages.Encoder().encode(ours)[0])
        recorded = (folder / f"recorded-{name}.bin").read_bytes()
        left, right = (shape(msgspec.msgpack.decode(frame)) for frame in (sent, recorded))
        found += differences(left, right, name)
    print("\n".join(found) or f"recorded: our messages have the shape of those in {folder}")
    return 1 if found else 0
