#!/usr/bin/env python3
"""Publishes messages at QoS 1 with Eclipse Paho and prints what their PUBACKs say of where they stand, a line each: Kafka topic, partition,
offset, payload. `receipts.py PORT MESSAGES`. Paho shows the properties of a PUBACK, but not those of a PUBREC."""

import sys
import threading

import paho.mqtt.client as mqtt


def main() -> int:
    port, messages = int(sys.argv[1]), int(sys.argv[2])
    connected, done = threading.Event(), threading.Event()
    places: dict[int, tuple[str, ...]] = {}

    def on_publish(_client, _userdata, packet_id, reason, properties) -> None:
        assert not reason.is_failure, reason
        said = dict(properties.UserProperty)
        places[packet_id] = tuple(said[f"kafka-{name}"] for name in ("topic", "partition", "offset"))
        if len(places) == messages:
            done.set()

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "receipts", protocol=mqtt.MQTTv5)
    client.on_connect = lambda *_: connected.set()
    client.on_publish = on_publish
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert connected.wait(30), "not connected"
    sent = {client.publish(f"flow/{n % 9}", f"message {n}", qos=1).mid: n for n in range(messages)}
    assert done.wait(60), f"{len(places)} of {messages} answered"
    client.disconnect()
    client.loop_stop()
    for packet_id, n in sent.items():
        print(*places[packet_id], f"message {n}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
