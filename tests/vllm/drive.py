"""A running vLLM in; what its clients saw out, one JSON line a request.

Every request has a temperature of its own: its identity on the wire and in the engine, which nothing
that joins the two may read. Fewer than half of them carry an X-Request-Id.
Usage: drive.py URL FILE [--share FRACTION]; the URL is as `wire.Wire` takes it.
"""

import argparse
import json
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
from openai import APIStatusError, OpenAI

from wire import Wire, events, real_minus_mono

MODEL = "tiny"
WORDS = "the quick brown fox jumps over a lazy dog and writes down how long it took to run ".split()

# kind: how many, and what sets it apart from the plain form
KINDS = {
    "chat_stream_usage": (30, {"op": "chat", "stream": True, "usage": True}),
    "chat_stream": (60, {"op": "chat", "stream": True}),
    "chat_whole": (24, {"op": "chat"}),
    "completions_stream_usage": (24, {"op": "completions", "stream": True, "usage": True}),
    "completions_stream": (60, {"op": "completions", "stream": True}),
    "completions_whole": (24, {"op": "completions"}),
    "openai_chat_stream": (20, {"op": "chat", "stream": True, "usage": True, "client": "openai"}),
    "openai_chat_whole": (20, {"op": "chat", "client": "openai"}),
    "n2_stream": (20, {"op": "chat", "stream": True, "usage": True, "n": 2}),
    "n2_whole": (20, {"op": "chat", "n": 2}),
    "prompts2": (20, {"op": "completions", "prompts": 2}),
    "stop_stream": (20, {"op": "chat", "stream": True, "usage": True, "stop": ["e", "o", "a", "t"]}),
    "stop_whole": (20, {"op": "completions", "stop": ["e", "o", "a", "t"]}),
    "long": (20, {"op": "completions", "stream": True, "usage": True, "tokens": 200, "words": 120}),
    "abort_stream": (20, {"op": "chat", "stream": True, "tokens": 300, "leave": "stream"}),
    "bad_value": (20, {"op": "chat", "bad": "value"}),
    "bad_model": (20, {"op": "chat", "bad": "model"}),
    "bad_json": (20, {"op": "chat", "bad": "json"}),
}
ROUNDS = 4  # of requests that leave while they wait
PAIRS = 12  # of requests with one X-Request-Id between them
PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}


class Drive:
    """Makes requests, runs them at a given concurrency, writes what came back."""

    def __init__(self, where: str, out):
        self.where, self.out = where, out
        self.lock = threading.Lock()
        self.local = threading.local()
        self.random = random.Random(7)
        self.made = 0
        unix = where.startswith("unix:")
        transport = httpx.HTTPTransport(uds=where.removeprefix("unix:")) if unix else None
        http = httpx.Client(verify=False, transport=transport)
        base = "http://localhost" if unix else where
        self.openai = OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0, http_client=http)

    def job(self, kind: str, shape: dict, x_request_id: str | None = None) -> dict:
        """A request that differs from every other in its temperature, and in length and start of its prompt."""
        self.made += 1
        if x_request_id is None and (self.made % 5 < 2 or shape.get("bad") == "json"):
            x_request_id = f"caller-{self.made}"
        words = shape.get("words") or self.random.choice([4, 12, 30, 90, 140])
        prompts = [
            f"{self.made}.{index} " + " ".join(self.random.choices(WORDS, k=words))
            for index in range(shape.get("prompts", 1))
        ]
        body = {
            "model": "absent" if shape.get("bad") == "model" else MODEL,
            "temperature": round(0.2 + self.made / 1000, 3),
            "max_tokens": shape.get("tokens") or self.random.randint(2, 40),
            "user": f"user-{self.made}",
        }
        if shape.get("bad") == "value":
            body["top_p"] = 7
        if shape["op"] == "chat":
            body["messages"] = [{"role": "user", "content": prompts[0]}]
        else:
            body["prompt"] = prompts[0] if len(prompts) == 1 else prompts
        if shape.get("stream"):
            body["stream"] = True
        if shape.get("stream") and shape.get("usage"):
            body["stream_options"] = {"include_usage": True}
        for key in ("n", "stop"):
            if key in shape:
                body[key] = shape[key]
        return {"kind": kind, "shape": shape, "body": body, "x_request_id": x_request_id}

    def run(self, job: dict) -> None:
        shape, body = job["shape"], job["body"]
        saw = {
            "kind": job["kind"],
            "op": shape["op"],
            "stream": bool(shape.get("stream")),
            "client": shape.get("client", "plain"),
            "temperature": body["temperature"],
            "user": body["user"],
            "x_request_id": job["x_request_id"],
            "n": shape.get("n", 1) * shape.get("prompts", 1),
            "status": None,
            "response_id": None,
            "usage": None,
            "finish_reasons": [],
            "pieces": 0,
            "first_content_ns": None,
            "first_content_alone": None,
            "left": shape.get("leave"),
            "error": None,
            "sent_ns": time.clock_gettime_ns(time.CLOCK_MONOTONIC),
        }
        try:
            (self.by_openai if saw["client"] == "openai" else self.by_socket)(job, saw)
        except (OSError, ValueError) as error:
            saw["error"] = repr(error)
            self.wire().close()
        saw["done_ns"] = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        with self.lock:
            self.out.write(json.dumps(saw) + "\n")

    def wire(self) -> Wire:
        if not hasattr(self.local, "wire"):
            self.local.wire = Wire(self.where)
        return self.local.wire

    def by_socket(self, job: dict, saw: dict) -> None:
        shape, wire = job["shape"], self.wire()
        body = json.dumps(job["body"]).encode()
        if shape.get("bad") == "json":
            body = body[:-1]
        wire.send(PATHS[shape["op"]], body, {"X-Request-Id": job["x_request_id"]} if job["x_request_id"] else {})
        if shape.get("leave") == "queue":
            time.sleep(0.1)
            wire.close()
            return
        saw["status"], decoder, rest, stamp = wire.head()
        for chunks, stamp in wire.parts(decoder, rest, stamp):
            for chunk in chunks:
                for piece in events(chunk) if saw["stream"] and saw["status"] == 200 else [json.loads(chunk)]:
                    note(piece, saw)
            if saw["pieces"] and saw["first_content_ns"] is None and stamp is not None:
                saw["first_content_ns"] = stamp - real_minus_mono()
                saw["first_content_alone"] = len(chunks) == 1
            if shape.get("leave") == "stream" and saw["pieces"] >= 3:
                wire.close()
                return

    def by_openai(self, job: dict, saw: dict) -> None:
        body = dict(job["body"])
        headers = {"X-Request-Id": job["x_request_id"]} if job["x_request_id"] else {}
        make = self.openai.chat.completions if saw["op"] == "chat" else self.openai.completions
        try:
            answer = make.create(**body, extra_headers=headers)
        except APIStatusError as error:
            saw["status"] = error.status_code
            return
        saw["status"] = 200
        for piece in answer if saw["stream"] else [answer]:
            note(piece.model_dump(), saw)


def note(piece: dict, saw: dict) -> None:
    """Adds what one event, or a whole answer, says."""
    saw["response_id"] = piece.get("id") or saw["response_id"]
    for choice in piece.get("choices") or []:
        delta = choice.get("delta") or choice.get("message") or choice
        if any(delta.get(key) for key in ("content", "reasoning", "reasoning_content", "text", "tool_calls")):
            saw["pieces"] += 1
        if choice.get("finish_reason"):
            saw["finish_reasons"].append(choice["finish_reason"])
    if usage := piece.get("usage"):
        details = usage.get("prompt_tokens_details") or {}
        saw["usage"] = {
            "input": usage["prompt_tokens"],
            "cached": details.get("cached_tokens"),
            "output": usage.get("completion_tokens"),
        }


def at_once(drive: Drive, jobs: list[dict], workers: int) -> None:
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(drive.run, job) for job in jobs]:
            done.result()


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("where", metavar="URL")
    arguments.add_argument("file")
    arguments.add_argument("--share", type=float, default=1.0, help="of each kind, run this share")
    chosen = arguments.parse_args()
    share = lambda count: max(1, round(count * chosen.share))
    started = time.monotonic()
    with open(chosen.file, "w", encoding="utf-8") as out:
        drive = Drive(chosen.where, out)
        jobs = [drive.job(kind, shape) for kind, (count, shape) in KINDS.items() for _ in range(share(count))]
        drive.random.shuffle(jobs)
        alone, few = len(jobs) // 20, len(jobs) // 5
        at_once(drive, jobs[:alone], 1)
        at_once(drive, jobs[alone : alone + few], 4)
        at_once(drive, jobs[alone + few :], 16)

        # The engine's four seats are taken, so who comes now waits, and leaves waiting.
        keep = {"op": "completions", "stream": True, "usage": True, "tokens": 400}
        leave = {"op": "chat", "stream": True, "leave": "queue"}
        for _ in range(share(ROUNDS)):
            seated = [drive.job("seated", keep) for _ in range(6)]
            at_once(drive, seated + [drive.job("abort_queue", leave) for _ in range(8)], 16)

        twins = []
        for pair in range(share(PAIRS)):
            twins += [drive.job("twin_ids", {"op": "chat", "stream": True, "usage": True}, f"twin-{pair}") for _ in "ab"]
        at_once(drive, twins, 8)
    print(json.dumps({"requests": drive.made, "seconds": round(time.monotonic() - started, 1)}))


if __name__ == "__main__":
    sys.exit(main())
