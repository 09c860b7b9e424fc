#!/usr/bin/env python3
"""Kept sessions with Eclipse Paho, several clients in one process: `paho_kept.py JOB`, the job as JSON. What it says: see real.py."""

import json
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

VERSIONS = {"3.1.1": mqtt.MQTTv311, "5.0": mqtt.MQTTv5}
EXPIRY_S = 3_600
LOCK = threading.Lock()


def say(*words: object) -> None:
    with LOCK:
        print(*words, flush=True)


def start(port: int, spec: dict) -> mqtt.Client:
    name, v5 = spec["name"], spec["version"] == "5.0"
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, protocol=VERSIONS[spec["version"]], clean_session=None if v5 else False)
    connected = []

    def on_connect(client, _userdata, flags, reason, _properties) -> None:
        if connected and not flags.session_present:
            say("lost", name)
        if not connected and not reason.is_failure:
            client.subscribe([(text, spec["qos"]) for text in spec["filters"]] if not v5 else [(text, mqtt.SubscribeOptions(spec["qos"])) for text in spec["filters"]])
        connected.append(True)

    client.on_connect = on_connect
    client.on_subscribe = lambda *_: say("ready", name)
    client.on_message = lambda _client, _userdata, message: say("copy", name, message.topic, message.qos, message.payload.hex())
    client.reconnect_delay_set(1, 1)
    more = {}
    if v5:
        more = {"clean_start": mqtt.MQTT_CLEAN_START_FIRST_ONLY, "properties": Properties(PacketTypes.CONNECT)}
        more["properties"].SessionExpiryInterval = EXPIRY_S
    client.connect("127.0.0.1", port, 60, **more)
    client.loop_start()
    return client


if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    clients = [start(job["port"], spec) for spec in job["clients"]]
    threading.Event().wait()
