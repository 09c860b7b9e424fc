#!/usr/bin/env python3
"""Subscribes with Eclipse Paho to a filter with its past, by the user property of SUBSCRIBE, and prints topic and payload of N messages.
`replay.py PORT FILTER FROM COUNT`. Where it is refused: the reason code and the Reason String."""

import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


def main() -> int:
    port, wanted, start, count = sys.argv[1:]
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    got, done = [], threading.Event()

    def on_connect(client, _userdata, _flags, reason, _properties) -> None:
        assert not reason.is_failure, reason
        properties = Properties(PacketTypes.SUBSCRIBE)
        properties.UserProperty = ("replay-from", start)
        client.subscribe(wanted, qos=1, properties=properties)

    def on_subscribe(_client, _userdata, _packet_id, reasons, properties) -> None:
        if reasons[0].is_failure:
            got.append(f"{reasons[0].value} {getattr(properties, 'ReasonString', '')}")
            done.set()

    def on_message(_client, _userdata, message) -> None:
        got.append(f"{message.topic} {message.payload.decode()}")
        if len(got) >= int(count):
            done.set()

    client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
    client.connect("127.0.0.1", int(port))
    client.loop_start()
    is_done = done.wait(120)
    client.disconnect()
    client.loop_stop()
    print("\n".join(got))
    return 0 if is_done else 1


if __name__ == "__main__":
    sys.exit(main())
