"""Request bodies in, `Ask`s or `Refusal`s out; the JSON of chunks and responses, as vLLM shapes it."""

import time
import uuid
from typing import Any

import msgspec

from standin.scenario import Scenario

encode = msgspec.json.encode

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
ID_PREFIX = {CHAT: "chatcmpl", COMPLETIONS: "cmpl", EMBEDDINGS: "embd"}

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a body that is no JSON, not UTF-8 or nested too deep raises."""


class Refusal(Exception):
    """A request that the front end answers itself."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind

    def body(self) -> bytes:
        """vLLM's error object."""
        return error_body(self.status, self.kind, str(self))


def error_body(code: int, kind: str, message: str) -> bytes:
    """The error object, in a response of its own or inside a stream."""
    return encode({"error": {"message": message, "type": kind, "param": None, "code": code}})


class Ask:
    """A request that the front end has understood."""

    def __init__(self, path: str, body: dict[str, Any], x_request_id: str | None, scenario: Scenario) -> None:
        self.path, self.body = path, body
        self.chat, self.pooling = path == CHAT, path == EMBEDDINGS
        self.model = body.get("model", scenario.model)
        self.id = f"{ID_PREFIX[path]}-{x_request_id or uuid.uuid4().hex[:16]}"
        self.stream = bool(body.get("stream"))
        self.n = int(body.get("n") or 1)
        self.usage = bool((body.get("stream_options") or {}).get("include_usage"))
        stop = body.get("stop") or []
        self.stop = [stop] if isinstance(stop, str) else stop
        self.extra: dict[str, int] = body.get("vllm_xargs") or {}
        self.created = int(time.time())
        self.tokens = [max(1, size // scenario.bytes_per_token) for size in _sizes(path, body)]
        self._head = self._chunk_head()

    def external_id(self, index: int) -> str:
        """The id of a prompt in the engine, before the engine's own suffix."""
        return self.id if self.chat else f"{self.id}-{index}"

    def params(self, prompt: int, scenario: Scenario) -> dict[str, Any]:
        """Sampling parameters as vLLM sends them: what has its default is left out, and some of what has it is not."""
        body = self.body
        temperature = float(body.get("temperature", 1.0))
        params: dict[str, Any] = {"temperature": temperature}
        if temperature > 0:
            params["top_p"] = float(body.get("top_p", 1.0))
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or (scenario.max_model_len - prompt)
        for key, value in (
            ("presence_penalty", body.get("presence_penalty")),
            ("frequency_penalty", body.get("frequency_penalty")),
            ("repetition_penalty", body.get("repetition_penalty")),
            ("top_k", body.get("top_k")),
            ("seed", body.get("seed")),
            ("watermarking", False),
            ("min_p", 0.0),
            ("stop", self.stop),
            ("stop_token_ids", []),
            ("ignore_eos", body.get("ignore_eos")),
            ("max_tokens", limit),
            ("logprobs", (body.get("top_logprobs") or 0) if body.get("logprobs") else None),
            ("prompt_logprobs", body.get("prompt_logprobs")),
            ("output_kind", 1 if self.stream else 2),
            ("skip_clone", True),
            ("_all_stop_token_ids", [2]),
            ("bad_words", []),
            ("skip_reading_prefix_cache", False),
            ("extra_args", self.extra or None),
        ):
            if value is not None:
                params[key] = value
        return params

    def role_chunk(self, choice: int) -> bytes:
        """The first delta of a chat: a role and no text."""
        return self._event({"index": choice, "delta": {"role": "assistant", "content": ""}, "finish_reason": None})

    def chunk(self, choice: int, text: str, finish: str | None, stop_reason: int | str | None) -> bytes:
        """A delta."""
        fields: dict[str, Any] = {"index": choice}
        fields["delta" if self.chat else "text"] = {"content": text} if self.chat else text
        fields["finish_reason"] = finish
        if finish:
            fields["stop_reason"] = stop_reason
        return self._event(fields)

    def usage_chunk(self, usage: dict[str, Any]) -> bytes:
        """The chunk after the last delta, where the caller asked for it."""
        return b"data: " + self._head + b'"choices":[],"usage":' + encode(usage) + b"}\n\n"

    def whole(self, choices: list[dict[str, Any]], usage: dict[str, Any]) -> bytes:
        """The body of a response that is no stream."""
        kind = "chat.completion" if self.chat else "text_completion"
        head = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return encode({**head, "choices": choices, "usage": usage})

    def embeddings(self, size: int, usage: dict[str, Any]) -> bytes:
        """The body of an embeddings response."""
        data = [
            {"index": index, "object": "embedding", "embedding": [0.5] * size} for index in range(len(self.tokens))
        ]
        head = {"id": self.id, "object": "list", "created": self.created, "model": self.model}
        return encode({**head, "data": data, "usage": usage})

    def choice(self, index: int, text: str, finish: str | None, stop_reason: int | str | None) -> dict[str, Any]:
        """One choice of a response that is no stream."""
        said = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        return {"index": index, **said, "finish_reason": finish, "stop_reason": stop_reason}

    def _chunk_head(self) -> bytes:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        head = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return encode(head)[:-1] + b","

    def _event(self, choice: dict[str, Any]) -> bytes:
        return b"data: " + self._head + b'"choices":[' + encode(choice) + b"]}\n\n"


def read(path: str, raw: bytes, x_request_id: str | None, scenario: Scenario) -> Ask:
    """Understands a body, or refuses it as vLLM does."""
    try:
        body = msgspec.json.decode(raw, type=dict[str, Any])
    except UNREADABLE as error:
        raise Refusal(400, "Bad Request", f"JSON decode error: {error}") from error
    status = int((body.get("vllm_xargs") or {}).get("status", 0))
    if status:
        raise Refusal(status, "InternalServerError" if status >= 500 else "TooManyRequests", "refused as asked")
    if body.get("model", scenario.model) != scenario.model:
        raise Refusal(404, "NotFoundError", f"The model `{body['model']}` does not exist.")
    needed = {CHAT: "messages", COMPLETIONS: "prompt", EMBEDDINGS: "input"}[path]
    if not body.get(needed):
        raise Refusal(400, "Bad Request", f"[{{'type': 'missing', 'loc': ('body', '{needed}')}}]")
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if limit is not None and limit < 1:
        raise Refusal(400, "BadRequestError", f"max_tokens must be at least 1, got {limit}.")
    ask = Ask(path, body, x_request_id, scenario)
    if max(ask.tokens) + (limit or 1) > scenario.max_model_len:
        message = f"This model's maximum context length is {scenario.max_model_len} tokens."
        raise Refusal(400, "BadRequestError", message)
    return ask


def usage(prompt: int, completion: int, cached: int, scenario: Scenario) -> dict[str, Any]:
    """The usage block."""
    block: dict[str, Any] = {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
    }
    if scenario.prompt_tokens_details:
        block["prompt_tokens_details"] = {"cached_tokens": cached}
    return block


def _sizes(path: str, body: dict[str, Any]) -> list[int]:
    """Bytes of each prompt; a token id counts as four."""
    if path == CHAT:
        contents = [message.get("content") or "" for message in body["messages"]]
        return [sum(len(text) if isinstance(text, str) else len(encode(text)) for text in contents)]
    prompts = body["prompt" if path == COMPLETIONS else "input"]
    if isinstance(prompts, str) or isinstance(prompts[0], int):
        prompts = [prompts]
    return [len(prompt) if isinstance(prompt, str) else 4 * len(prompt) for prompt in prompts]
