"""The ports of an OTLP receiver (gRPC) and of a server in; a caller as people instrument it, and its spans, out.

The OpenAI client with OpenInference's instrumentation; what the guides leave out is one hook that sends the current
span along, without which no server could know its caller.
"""

import sys

import httpx2
from openai import OpenAI
from openinference.instrumentation.openai import OpenAIInstrumentor
from opentelemetry import propagate
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

CALLS = 10


def main(receiver: str, server: str) -> None:
    """Calls a few times, half of them streamed."""
    provider = TracerProvider()
    exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{receiver}", insecure=True)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    OpenAIInstrumentor().instrument()
    sends_its_span = httpx2.Client(event_hooks={"request": [lambda request: propagate.inject(request.headers)]})
    client = OpenAI(base_url=f"http://127.0.0.1:{server}/v1", api_key="none", http_client=sends_its_span)
    for number in range(CALLS):
        answer = client.chat.completions.create(
            model="standin",
            messages=[{"role": "user", "content": "the quick brown fox"}],
            max_tokens=8,
            temperature=0.5 + number / 1000,
            user="ada",
            stream=number % 2 == 1,
        )
        if number % 2 == 1:
            for _ in answer:
                pass
    provider.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
