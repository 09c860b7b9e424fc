"""An application of Dapr's HTTP bindings: it writes down each call, and refuses some.

dapr_app.py PORT FILE [REFUSE] [OPTIONS]

It prints its port, which PORT 0 leaves to the kernel.

REFUSE: none; third (bodies that are a number that 3 divides); first (the first call with each body); all; hang (it dies at the fifth call, without
an answer). OPTIONS: the status of its answer to OPTIONS.
"""

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, file = int(sys.argv[1]), sys.argv[2]
refuse = sys.argv[3] if len(sys.argv) > 3 else "none"
options = int(sys.argv[4]) if len(sys.argv) > 4 else 200
lock, seen, calls, now = threading.Lock(), set(), [0], [0]


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def note(self, **fields):
        with open(file, "a", encoding="utf-8") as out:
            out.write(json.dumps(fields) + "\n")
            out.flush()
            os.fsync(out.fileno())

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_OPTIONS(self):
        with lock:
            self.note(method="OPTIONS", path=self.path)
        self.answer(options)

    def do_GET(self):
        """daprd asks for its configuration and for subscriptions: there are none."""
        self.answer(404)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with lock:
            calls[0] += 1
            now[0] += 1
            if refuse == "hang" and calls[0] == 5:
                os._exit(1)
            is_first = body not in seen
            seen.add(body)
            refused = (
                refuse == "all"
                or refuse == "third" and int(body) % 3 == 0
                or refuse == "first" and is_first
            )
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.note(method="POST", path=self.path, body=body, headers=headers, at=time.monotonic(), together=now[0], taken=not refused)
        if refuse == "slow":
            time.sleep(0.2)
        with lock:
            now[0] -= 1
        self.answer(500 if refused else 200)


ThreadingHTTPServer.daemon_threads = True
ThreadingHTTPServer.request_queue_size = 128
server = ThreadingHTTPServer(("127.0.0.1", port), App)
print(server.server_port, flush=True)
server.serve_forever()
