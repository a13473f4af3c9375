"""Spans over OTLP http/protobuf in; one JSON line a span out: {"name", "attributes"}.

Attributes are vLLM's own (`gen_ai.request.id`, `gen_ai.latency.*`, `gen_ai.usage.*`), in full precision.
The first line of standard output is the port it listens on.
Usage: otlp_receiver.py FILE [PORT]
"""

import gzip
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse


def plain(value):
    """An AnyValue as JSON would say it."""
    which = value.WhichOneof("value")
    return getattr(value, which) if which in ("string_value", "int_value", "double_value", "bool_value") else None


def spans(body: bytes):
    """What a request to export holds, a dict a span."""
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield {
                    "name": span.name,
                    "trace_id": span.trace_id.hex(),
                    "attributes": {each.key: plain(each.value) for each in span.attributes},
                }


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        with self.server.lock:
            for span in spans(body):
                self.server.out.write(json.dumps(span) + "\n")
            self.server.out.flush()
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 0), Receiver)
    server.lock = Lock()
    with open(sys.argv[1], "w", encoding="utf-8") as server.out:
        print(server.server_address[1], flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
