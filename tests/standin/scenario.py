"""A scenario file (JSON) in, the settings of one run of the stand-in engine out; unknown keys are errors.

What concerns one request only is asked for by that request, in `vllm_xargs`, a field that vLLM has too:
see `REQUEST_KEYS`.
"""

from pathlib import Path

import msgspec

REQUEST_KEYS = {
    "eos_after": "the model's own end (finish 0) after so many tokens",
    "fail_after": "the engine ends it with an error (finish 3) after so many tokens",
    "break_after": "the server closes the connection after so many content chunks",
    "cached_tokens": "so many prompt tokens are found in the prefix cache",
    "status": "the front end refuses it with this status before the engine sees it",
    "gap_ms": "pause before each of comment, role delta, empty delta and first content",
    "keepalive": "comments while waiting for the first token: 1 is on",
    "kill_engine": "the engine core dies when it would schedule it",
}


class Scenario(msgspec.Struct, forbid_unknown_fields=True):
    """How the engine behaves. Times are milliseconds; what is left out has vLLM's customs as its default."""

    model: str = "standin"
    max_model_len: int = 1 << 20
    bytes_per_token: int = 4
    """Prompt text of so many bytes is one token."""
    step_ms: float = 10.0
    """What a step takes beside its prefill."""
    prefill_ms_per_token: float = 0.02
    throttled_factor: float = 6.0
    """So many times longer is a step while its GPU is throttled."""
    tokens_per_step: int = 1
    """More than one plays speculative decoding."""
    max_running: int = 256
    max_batched_tokens: int = 8192
    """The token budget of a step; longer prompts are prefilled in chunks."""
    kv_blocks: int = 1 << 20
    """Of 16 tokens each; few of them make preemptions."""
    log_stats: bool = True
    """Off leaves events and scheduler stats out, as `--disable-log-stats` does."""
    prompt_tokens_details: bool = True
    """Whether `usage` tells cached tokens."""
    embedding_size: int = 64
    send_buffer_bytes: int | None = None
    """Of the kernel, per connection; a small one makes a slow reader felt soon."""
    start_method: str = "spawn"
    """How the engine core is started: `spawn` (what `vllm serve` does) or `fork`."""
    core_title: str = "VLLM::EngineCore"
    load_seconds: float = 0.0
    """Between the engine core's first words and its readiness, when a real one loads its model."""
    core_outlives_seconds: int = 0
    """If set, the engine core does not end with a front end that was killed, but so long after its own start."""


def read(path: str | None) -> Scenario:
    """The scenario in a file, or the default one."""
    return msgspec.json.decode(Path(path).read_bytes(), type=Scenario) if path else Scenario()
