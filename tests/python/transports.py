#!/usr/bin/env python3
"""Publishes 300 messages of all sizes and QoS levels with Eclipse Paho, stays idle for longer than its keep-alive, publishes once more, and leaves.
`transports.py tls|ws|wss PORT 3.1.1|5.0 PATH [CA [CERT KEY]]`. PATH: of WebSocket."""

import sys
import threading
import time

import paho.mqtt.client as mqtt

SIZES = [0, 1, 100, 126, 5_000, 70_000, 1_000]
MESSAGES = 300


def main() -> int:
    transport, port, version, path, *tls = sys.argv[1:]
    protocol = {"3.1.1": mqtt.MQTTv311, "5.0": mqtt.MQTTv5}[version]
    kind = "websockets" if transport.startswith("ws") else "tcp"
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, f"paho-{version}", protocol=protocol, transport=kind)
    client.max_inflight_messages_set(50)
    if kind == "websockets":
        client.ws_set_options(path=path)
    if tls:
        ca, *pair = tls
        client.tls_set(ca, *pair)
    connected, all_sent, lost = threading.Event(), threading.Event(), []
    sent = set()

    def on_publish(_client, _userdata, packet_id, reason, _properties) -> None:
        assert not reason.is_failure, reason
        sent.add(packet_id)
        if len(sent) >= MESSAGES:
            all_sent.set()

    client.on_connect = lambda _client, _userdata, _flags, reason, _properties: reason.is_failure or connected.set()
    client.on_disconnect = lambda *arguments: lost.append(arguments[3])
    client.on_publish = on_publish
    client.connect("localhost", int(port), keepalive=2)
    client.loop_start()
    assert connected.wait(30), "not connected"
    for n in range(MESSAGES):
        client.publish(f"t/{version}", f"{n} {'x' * SIZES[n % len(SIZES)]}", qos=n % 3)
    assert all_sent.wait(60), f"{len(sent)} of {MESSAGES}"
    time.sleep(4)
    assert not lost, lost
    client.publish(f"t/{version}", f"{MESSAGES} ", qos=1).wait_for_publish(30)
    client.disconnect()
    client.loop_stop()
    print("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
