"""Our messages through vLLM's own classes, and theirs through ours; needs vLLM in the same environment.

Says what it compared, and fails at the first difference.
"""

import sys
from typing import Any

import msgspec

from standin import messages
from standin.scenario import Scenario
from standin.scheduler import Live
from standin.scheduler import Scheduler

TESTED = "0.32"


def _fields(value: Any) -> Any:
    """A message of either side as plain data."""
    if isinstance(value, msgspec.Struct):
        return {name: _fields(getattr(value, name)) for name in value.__struct_fields__}
    if hasattr(value, "__dataclass_fields__"):
        return {name: _fields(getattr(value, name)) for name in value.__dataclass_fields__}
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _fields(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set):
        return [_fields(part) for part in value]
    return value


def _same(what: str, ours: Any, theirs: Any) -> None:
    if ours != theirs:
        raise SystemExit(f"selfcheck: {what} differ:\n  ours   {ours!r}\n  theirs {theirs!r}")
    print(f"selfcheck: {what}: equal")


def _request(params: dict[str, Any]) -> messages.Request:
    return messages.Request("chatcmpl-a-01234567", [1, 2, 3] * 50, None, params, None, 1.5e9, None, None, None,
                            external_req_id="chatcmpl-a")


def _steps() -> list[messages.Outputs]:
    """Messages of a real run of the scheduler: events, facts, log-probabilities, aux frames, a finish."""
    scheduler, made = Scheduler(Scenario()), []
    params = {"temperature": 0.5, "max_tokens": 3, "logprobs": 2, "prompt_logprobs": 1}
    scheduler.add(Live(_request(params), (0, 0)))
    pooling = messages.Request("embd-a-0-01234567", [1], None, None, {"task": "embed"}, 1.5e9, None, None, None)
    scheduler.add(Live(pooling, (0, 0)))
    while scheduler.live:
        outputs = scheduler.update(scheduler.schedule())
        made.append(messages.Outputs(outputs=outputs, scheduler_stats=scheduler.stats()))
        scheduler.stamp(outputs, made[-1].timestamp)
    return made


def main() -> int:
    """`python -m standin selfcheck`."""
    try:
        import vllm
        from vllm import SamplingParams
        from vllm.v1 import engine
        from vllm.v1.serial_utils import MsgpackDecoder
        from vllm.v1.serial_utils import MsgpackEncoder
    except ImportError as error:
        print(f"selfcheck: cannot run here: {error}", file=sys.stderr)
        return 3
    if not vllm.__version__.startswith(TESTED):
        print(f"selfcheck: vLLM {vllm.__version__}, made for {TESTED}", file=sys.stderr)
        return 3

    for ours, theirs in (
        (messages.Request, engine.EngineCoreRequest),
        (messages.Output, engine.EngineCoreOutput),
        (messages.Outputs, engine.EngineCoreOutputs),
        (messages.Event, engine.EngineCoreEvent),
    ):
        _same(f"fields of {theirs.__name__}", ours.__struct_fields__, theirs.__struct_fields__)

    decoder = MsgpackDecoder(engine.EngineCoreOutputs)
    for number, step in enumerate(_steps()):
        frames = messages.Encoder().encode(step)
        theirs = decoder.decode([bytes(frame) for frame in frames])
        again = MsgpackEncoder().encode(theirs)
        _same(f"step {number}: frames", len(frames), len(again))
        _same(f"step {number}: bytes", [bytes(frame) for frame in frames], [bytes(frame) for frame in again])

    params = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 3, "output_kind": 1, "extra_args": {"eos_after": 2}}
    frames = messages.Encoder().encode(_request(params))
    theirs = MsgpackDecoder(engine.EngineCoreRequest).decode([bytes(frame) for frame in frames])
    for name, value in params.items():
        held = getattr(theirs.sampling_params, name)
        _same(f"parameter {name}", value, getattr(held, "value", held))
    real = _request({})
    real_params = SamplingParams(temperature=0.5, top_p=0.9, max_tokens=3, stop=["x"])
    theirs = engine.EngineCoreRequest(**{**_fields(real), "sampling_params": real_params})
    frames = MsgpackEncoder().encode(theirs)
    ours = msgspec.msgpack.Decoder(messages.Request).decode(frames[0])
    _same("ADD: id, prompt, external id",
          (ours.request_id, ours.prompt_token_ids, ours.external_req_id),
          (theirs.request_id, theirs.prompt_token_ids, theirs.external_req_id))
    for name in ("temperature", "top_p", "max_tokens", "stop"):
        _same(f"ADD: parameter {name}", ours.sampling_params[name], getattr(real_params, name))
    print(f"selfcheck: vLLM {vllm.__version__}: passed")
    return 0
