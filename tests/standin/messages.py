"""What crosses the sockets between front end and EngineCore: the structs of vLLM 0.32, field for field.

Positions and names are vLLM's, so the bytes are too; `selfcheck` decodes them with vLLM's own classes.
Tensors travel as `[dtype, shape, Ext(3, bytes)]`, or, from 256 bytes on, as `[dtype, shape, frame number]`
with the bytes in a frame of their own.
"""

import enum
import time
from array import array
from typing import Any

import msgspec

ADD = b"\x00"
ABORT = b"\x01"
UTILITY = b"\x03"
ENGINE_CORE_DEAD = b"ENGINE_CORE_DEAD"

EXT_RAW_VIEW = 3
INLINE_BELOW_BYTES = 256


class Finish(enum.IntEnum):
    """`FinishReason`: the position is the code on the wire."""

    STOP = 0
    LENGTH = 1
    ABORT = 2
    ERROR = 3
    REPETITION = 4


class EventType(enum.IntEnum):
    """`EngineCoreEventType`."""

    QUEUED = 1
    SCHEDULED = 2
    PREEMPTED = 3


class Event(msgspec.Struct):
    """`EngineCoreEvent`: a map; seconds of CLOCK_MONOTONIC."""

    type: EventType
    timestamp: float


class Request(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    """`EngineCoreRequest`: the payload of ADD."""

    request_id: str
    prompt_token_ids: list[int] | None
    mm_features: Any
    sampling_params: dict[str, Any] | None
    pooling_params: dict[str, Any] | None
    arrival_time: float
    lora_request: Any
    cache_salt: str | None
    data_parallel_rank: int | None
    prompt_embeds: Any = None
    prompt_is_token_ids: list[bool] | None = None
    client_index: int = 0
    current_wave: int = 0
    priority: int = 0
    trace_headers: dict[str, str] | None = None
    resumable: bool = False
    external_req_id: str | None = None
    reasoning_ended: bool | None = None
    reasoning_parser_kwargs: dict[str, Any] | None = None
    abort_immediately: bool = False
    session_id: str | None = None
    kv_hints: Any = None


class PrefillStats(msgspec.Struct):
    """`PrefillStats`: a map, on a request's first output only."""

    num_prompt_tokens: int = 0
    num_computed_tokens: int = 0
    num_cached_tokens: int = 0
    num_local_cached_tokens: int = 0
    num_external_cached_tokens: int = 0
    num_cache_creation_tokens: int = 0


class Output(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    """`EngineCoreOutput`: what one step made for one request."""

    request_id: str
    new_token_ids: list[int]
    new_logprobs: Any = None
    new_prompt_logprobs_tensors: Any = None
    pooling_output: Any = None
    finish_reason: Finish | None = None
    stop_reason: int | str | None = None
    events: list[Event] | None = None
    kv_transfer_params: dict[str, Any] | None = None
    ec_transfer_params: dict[str, Any] | None = None
    trace_headers: dict[str, str] | None = None
    prefill_stats: PrefillStats | None = None
    routed_experts: Any = None
    num_nans_in_logits: int = 0
    mm_cache_miss_hashes: list[str] | None = None
    new_sampling_mask: Any = None
    spec_decode_metrics: Any = None
    prompt_token_id_logprobs: Any = None


class PrefixCacheStats(msgspec.Struct):
    """`PrefixCacheStats`: a map."""

    reset: bool = False
    requests: int = 0
    queries: int = 0
    hits: int = 0
    preempted_requests: int = 0
    preempted_queries: int = 0
    preempted_hits: int = 0
    hits_by_source: dict[str, int] = {}


class SchedulerStats(msgspec.Struct):
    """`SchedulerStats`: a map."""

    num_running_reqs: int = 0
    num_waiting_reqs: int = 0
    num_skipped_waiting_reqs: int = 0
    num_kv_fetch_reqs_by_stage: dict[str, int] = {}
    step_counter: int = 0
    current_wave: int = 0
    kv_cache_usage: float = 0.0
    iteration_details: Any = None
    prefix_cache_stats: PrefixCacheStats = msgspec.field(default_factory=PrefixCacheStats)
    connector_prefix_cache_stats: Any = None
    kv_cache_eviction_events: list[Any] = []
    spec_decoding_stats: Any = None
    kv_connector_stats: Any = None
    ec_connector_stats: Any = None
    waiting_lora_adapters: dict[str, int] = {}
    running_lora_adapters: dict[str, int] = {}
    cudagraph_stats: Any = None
    perf_stats: Any = None


class Outputs(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    """`EngineCoreOutputs`: one message a step."""

    engine_index: int = 0
    outputs: list[Output] = []
    scheduler_stats: SchedulerStats | None = None
    timestamp: float = 0.0
    utility_output: Any = None
    finished_requests: set[str] | None = None
    wave_complete: int | None = None
    start_wave: int | None = None
    weight_version: str | None = None

    def __post_init__(self) -> None:
        if self.timestamp == 0.0:
            self.timestamp = time.monotonic()


class Tensor:
    """A tensor that is only bytes with a shape."""

    def __init__(self, dtype: str, shape: tuple[int, ...], data: bytes) -> None:
        self.dtype, self.shape, self.data = dtype, shape, data


class Encoder:
    """Structs in, frames out, as vLLM's `MsgpackEncoder` makes them."""

    def __init__(self) -> None:
        self._encoder = msgspec.msgpack.Encoder(enc_hook=self._hook)
        self._frames: list[Any] = []

    def encode(self, message: Any) -> list[Any]:
        """All frames; the first is msgpack."""
        return self.encode_into(message, bytearray())

    def encode_into(self, message: Any, buffer: bytearray) -> list[Any]:
        """As `encode`, the first frame written into `buffer`."""
        frames = self._frames = [buffer]
        self._encoder.encode_into(message, buffer)
        return frames

    def _hook(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            raise TypeError(f"{type(value)} has no encoding")
        if len(value.data) < INLINE_BELOW_BYTES:
            return value.dtype, value.shape, msgspec.msgpack.Ext(EXT_RAW_VIEW, value.data)
        self._frames.append(value.data)
        return value.dtype, value.shape, len(self._frames) - 1


def logprobs(rows: int, columns: int, numpy: bool) -> list[Any]:
    """`LogprobsLists` (numpy type names) or `LogprobsTensors` (torch type names), with made-up values."""
    names = ("<i4", "<f4", "<i4") if numpy else ("int32", "float32", "int32")
    ids = array("i", range(rows * columns)).tobytes()
    values = array("f", [-1.0] * (rows * columns)).tobytes()
    ranks = array("i", [0] * rows).tobytes()
    parts = [
        Tensor(names[0], (rows, columns), ids),
        Tensor(names[1], (rows, columns), values),
        Tensor(names[2], (rows,), ranks),
        None,
    ]
    return parts if numpy else [*parts, None]


def vector(length: int) -> Tensor:
    """The pooling output of an embedding."""
    return Tensor("float32", (length,), array("f", [0.5] * length).tobytes())
