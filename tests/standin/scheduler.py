"""Added requests in, outputs of steps out: vLLM's scheduler with a timer for a model.

Continuous batching, a token budget with chunked prefill, preemption when KV blocks run out. Every instant is
one reading of time.monotonic(), put into the messages and handed to the truth as the same number.
"""

import time
from collections import deque
from typing import Any

from standin import messages
from standin.messages import EventType
from standin.messages import Finish
from standin.messages import Output
from standin.scenario import Scenario

BLOCK_TOKENS = 16


class Killed(Exception):
    """A request asked for the engine's death."""


class Live:
    """A request in the scheduler, and the truth about it."""

    def __init__(self, request: messages.Request, added_ns: tuple[int, int]) -> None:
        self.request = request
        self.id = request.request_id
        self.prompt = len(request.prompt_token_ids or [])
        self.params = request.sampling_params or {}
        extra = self.params.get("extra_args") or {}
        self.eos_after = int(extra.get("eos_after", 0))
        self.fail_after = int(extra["fail_after"]) if "fail_after" in extra else None
        self.kill = bool(extra.get("kill_engine"))
        self.cached = min(int(extra.get("cached_tokens", 0)), max(self.prompt - 1, 0))
        self.max_tokens = int(self.params.get("max_tokens", 16))
        self.computed = 0
        self.blocks = 0
        self.made = 0
        self.events: list[messages.Event] = []
        self.unsent_facts = True
        self.added_ns = added_ns
        self.aborted_ns: tuple[int, int] | None = None
        self.marks: list[tuple[int, float]] = []
        self.steps: list[tuple[float, int]] = []
        self.finish: Finish | None = None

    def mark(self, kind: EventType, at: float, told: bool) -> None:
        """An event of its life, where messages carry events."""
        if told:
            self.marks.append((int(kind), at))
            self.events.append(messages.Event(kind, at))

    def truth(self) -> dict[str, Any]:
        """The engine's last word on it."""
        return {
            "id": self.id,
            "added": self.added_ns,
            "aborted": self.aborted_ns,
            "marks": self.marks,
            "steps": self.steps,
            "finish": self.finish,
            "prompt_tokens": self.prompt,
            "cached_tokens": self.cached,
            "engine_tokens": self.made,
        }


class Scheduler:
    """The queue, the batch and the steps of one engine."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.waiting: deque[Live] = deque()
        self.running: dict[str, Live] = {}
        self.live: dict[str, Live] = {}
        self.ended: list[Live] = []
        """Requests that ended since the owner last looked."""
        self.asleep = False
        """Whether it takes no step until it is woken."""
        self.throttled = False
        """Whether the clocks of its GPU are held down."""
        self._free = scenario.kv_blocks

    def call(self, name: str) -> None:
        """What the front end asks of it beside inference."""
        match name:
            case "sleep" | "wake_up":
                self.asleep = name == "sleep"
            case "throttle" | "unthrottle":
                self.throttled = name == "throttle"

    def add(self, live: Live) -> None:
        """Into the queue."""
        live.mark(EventType.QUEUED, time.monotonic(), self.scenario.log_stats)
        self.live[live.id] = live
        self.waiting.append(live)

    def abort(self, ids: list[str], read_ns: tuple[int, int]) -> None:
        """Out of queue and batch; an id that has ended means nothing."""
        for request_id in ids:
            if live := self.live.get(request_id):
                live.aborted_ns = read_ns
                self._end(live)

    def schedule(self) -> list[tuple[Live, int]]:
        """Who takes part in the next step, and with how many tokens."""
        now, batch, budget = time.monotonic(), [], self.scenario.max_batched_tokens
        ran = len(self.running)
        for live in list(self.running.values()):
            if budget == 0:
                break
            tokens = min(live.prompt + live.made - live.computed, budget)
            if live.id in self.running and self._make_room(live, tokens, now):
                batch.append((live, tokens))
                budget -= tokens
        if len(self.running) < ran:
            return [(live, tokens) for live, tokens in batch if live.id in self.running]
        while self.waiting and budget and len(self.running) < self.scenario.max_running:
            live = self.waiting[0]
            if live.kill:
                raise Killed
            live.computed = max(live.computed, live.cached)
            tokens = min(live.prompt + live.made - live.computed, budget)
            if self.running and self._free < self._more_blocks(live, tokens):
                break
            self.waiting.popleft()
            live.mark(EventType.SCHEDULED, now, self.scenario.log_stats)
            self.running[live.id] = live
            self._make_room(live, tokens, now)
            batch.append((live, tokens))
            budget -= tokens
        return batch

    def step_seconds(self, batch: list[tuple[Live, int]]) -> float:
        """How long the model takes for this batch."""
        prefill = sum(tokens for live, tokens in batch if live.computed < live.prompt)
        slower = self.scenario.throttled_factor if self.throttled else 1
        return slower * (self.scenario.step_ms + prefill * self.scenario.prefill_ms_per_token) / 1000

    def update(self, batch: list[tuple[Live, int]]) -> list[Output]:
        """The outputs of a batch that has run; who was aborted meanwhile has none."""
        outputs = []
        for live, tokens in batch:
            if live.id not in self.live:
                continue
            live.computed += tokens
            if live.computed >= live.prompt + live.made:
                outputs.append(self._output(live))
        return outputs

    def stamp(self, outputs: list[Output], at: float) -> None:
        """Notes the timestamp of the message that carries these outputs."""
        for output in outputs:
            live = self.live.get(output.request_id)
            if live is None:
                continue
            live.steps.append((at, len(output.new_token_ids)))
            if output.finish_reason is not None:
                self._end(live)

    def stats(self) -> messages.SchedulerStats | None:
        """The state after a step."""
        if not self.scenario.log_stats:
            return None
        used = self.scenario.kv_blocks - self._free
        return messages.SchedulerStats(
            num_running_reqs=len(self.running),
            num_waiting_reqs=len(self.waiting),
            num_kv_fetch_reqs_by_stage=dict.fromkeys(("waiting_to_start", "in_progress", "completed_waiting"), 0),
            kv_cache_usage=used / self.scenario.kv_blocks,
        )

    def _output(self, live: Live) -> Output:
        output = Output(request_id=live.id, new_token_ids=[])
        output.events, live.events = live.events or None, []
        if live.unsent_facts:
            live.unsent_facts = False
            computed = live.prompt - live.cached
            output.prefill_stats = messages.PrefillStats(
                num_prompt_tokens=live.prompt,
                num_computed_tokens=computed,
                num_cached_tokens=live.cached,
                num_local_cached_tokens=live.cached,
                num_cache_creation_tokens=computed,
            )
            if live.params.get("prompt_logprobs"):
                output.new_prompt_logprobs_tensors = messages.logprobs(live.prompt, 2, numpy=False)
        if live.request.pooling_params is not None:
            output.pooling_output = messages.vector(self.scenario.embedding_size)
            live.finish = Finish.STOP
        elif live.fail_after is not None and live.made >= live.fail_after:
            live.finish = Finish.ERROR
        else:
            limit = min(live.max_tokens, live.eos_after or live.max_tokens)
            count = min(self.scenario.tokens_per_step, limit - live.made)
            output.new_token_ids = list(range(live.made + 1, live.made + count + 1))
            live.made += count
            if live.params.get("logprobs") is not None:
                output.new_logprobs = messages.logprobs(count, int(live.params["logprobs"]) + 1, numpy=True)
            if live.made >= limit:
                live.finish = Finish.STOP if live.eos_after and limit == live.eos_after else Finish.LENGTH
        output.finish_reason = live.finish
        return output

    def _end(self, live: Live) -> None:
        del self.live[live.id]
        if self.running.pop(live.id, None) is None:
            self.waiting.remove(live)
        self._release(live)
        self.ended.append(live)

    def _make_room(self, live: Live, tokens: int, now: float) -> bool:
        """Preempts from the end of the batch until `live` has its blocks; false when it went itself."""
        more = self._more_blocks(live, tokens)
        while self._free < more and len(self.running) > 1:
            _, victim = self.running.popitem()
            self._release(victim)
            victim.computed = 0
            victim.mark(EventType.PREEMPTED, now, self.scenario.log_stats)
            self.waiting.appendleft(victim)
            if victim is live:
                return False
        live.blocks += more
        self._free -= more
        return True

    def _release(self, live: Live) -> None:
        self._free += live.blocks
        live.blocks = 0

    @staticmethod
    def _more_blocks(live: Live, tokens: int) -> int:
        return -(-(live.computed + tokens) // BLOCK_TOKENS) - live.blocks
