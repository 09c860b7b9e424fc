"""An OTLP receiver that takes nothing but what the protocol's own definitions decode. It prints its port, answers until its standard input ends, and
then prints what came as one JSON object. `otlp.py [REFUSED]`: so many requests are refused first.
"""

import base64
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS = {"/v1/metrics": ExportMetricsServiceRequest, "/v1/traces": ExportTraceServiceRequest}
seen: dict = {"faults": [], "refused": 0, "headers": [], "resource": {}, "metrics": {}, "spans": []}
to_refuse = int(sys.argv[1]) if len(sys.argv) > 1 else 0


def plain(attributes) -> dict:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def ids_as_bytes(request: dict) -> dict:
    """OTLP's JSON has ids in hexadecimal, where JSON of Protocol Buffers has bytes in Base64."""
    for resource in request.get("resourceSpans", []):
        for span in (span for scope in resource["scopeSpans"] for span in scope["spans"]):
            for name, length in (("traceId", 16), ("spanId", 8), ("parentSpanId", 8)):
                if name in span:
                    raw = bytes.fromhex(span[name])
                    assert len(raw) == length and any(raw), (name, span[name])
                    span[name] = base64.b64encode(raw).decode()
    return request


def take_metrics(request) -> None:
    for resource in request.resource_metrics:
        seen["resource"] = plain(resource.resource.attributes)
        for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
            kind = metric.WhichOneof("data")
            points = getattr(metric, kind).data_points
            assert points and all(point.time_unix_nano > 0 for point in points), metric.name
            if kind == "histogram":
                for point in points:
                    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1 and sum(point.bucket_counts) == point.count, metric.name
            if kind == "sum":
                assert metric.sum.is_monotonic and metric.sum.aggregation_temporality == 2 and not metric.name.endswith("_total"), metric.name
            value = sum(point.count if kind == "histogram" else getattr(point, point.WhichOneof("value")) for point in points)
            seen["metrics"][metric.name] = {"kind": kind, "unit": metric.unit, "value": value}


def take_spans(request) -> None:
    for span in (span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans):
        assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano, span.name
        seen["spans"].append({
            "name": span.name, "kind": span.kind, "trace": span.trace_id.hex(), "id": span.span_id.hex(), "parent": span.parent_span_id.hex(),
            "attributes": plain(span.attributes), "failed": span.status.message if span.status.code == 2 else None,
        })  # fmt: skip


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        seen["headers"].append(dict(self.headers))
        if seen["refused"] < to_refuse:
            seen["refused"] += 1
            return self.answer(503)
        try:
            assert self.headers["Content-Type"] == "application/json"
            request = Parse(json.dumps(ids_as_bytes(json.loads(body))), KINDS[self.path]())
            (take_metrics if self.path == "/v1/metrics" else take_spans)(request)
            self.answer(200)
        except Exception as error:  # whatever it is, the test shows it
            seen["faults"].append(f"{self.path}: {error!r}")
            self.answer(400)

    def answer(self, status: int):
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_address[1], flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
print(json.dumps(seen))
