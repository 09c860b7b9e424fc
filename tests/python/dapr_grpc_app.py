"""An application of Dapr's gRPC bindings, made with Dapr's SDK: it writes down each call, and refuses some.

dapr_grpc_app.py PORT FILE [REFUSE] [NAME]

REFUSE: none; third (bodies that are a number that 3 divides); first (the first call with each body); all; hang (it dies at the fifth call, without
an answer); slow; to (not refused: answered with the body for the output bindings that the message's topic names after `in/`, separated by `,`).
NAME: the binding whose messages it wants (`mine`).
"""

import json
import os
import sys
import threading
import time

from dapr.ext.grpc import App
from dapr.ext.grpc._servicer import _CallbackServicer
from dapr.proto import appcallback_v1

port, file = int(sys.argv[1]), sys.argv[2]
refuse = sys.argv[3] if len(sys.argv) > 3 else "none"
name = sys.argv[4] if len(sys.argv) > 4 else "mine"
lock, seen, calls, now = threading.Lock(), set(), [0], [0]


class Refused(Exception):
    pass


def note(**fields):
    with open(file, "a", encoding="utf-8") as out:
        out.write(json.dumps(fields) + "\n")
        out.flush()
        os.fsync(out.fileno())


if refuse == "to":
    # The SDK's decorator has no way to say it.
    handle = _CallbackServicer.OnBindingEvent

    def answer(self, request, context):
        handle(self, request, context)
        to = request.metadata["topic"].removeprefix("in/").split(",")
        return appcallback_v1.BindingEventResponse(to=to, data=request.data)

    _CallbackServicer.OnBindingEvent = answer

app = App()


@app.binding(name)
def taken(request):
    body = request.text()
    with lock:
        calls[0] += 1
        now[0] += 1
        if refuse == "hang" and calls[0] == 5:
            os._exit(1)
        is_first = body not in seen
        seen.add(body)
        refused = refuse == "all" or refuse == "third" and int(body) % 3 == 0 or refuse == "first" and is_first
        headers = {key: values[0] for key, values in request.metadata.items()} | request.binding_metadata
        note(method="POST", path=name, body=body, headers=headers, at=time.monotonic(), together=now[0], taken=not refused)
    if refuse == "slow":
        time.sleep(0.2)
    with lock:
        now[0] -= 1
    if refused:
        raise Refused("not this one")


print(port, flush=True)
app.run(port, "127.0.0.1")
