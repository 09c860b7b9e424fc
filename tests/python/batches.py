#!/usr/bin/env python3
"""Subscribers that acknowledge in batches: `batches.py CA tcp=PORT tls=PORT ws=PORT wss=PORT`, the ports of one service.

Over each transport and in each version, one of Paho and one of mqtt.js acknowledge nothing before MESSAGES large messages have come, which
are published at once. They have to get them all: what their sockets hold at a time is no reason to wait for an acknowledgement.
"""

import os
import ssl
import subprocess
import sys
import threading

import paho.mqtt.client as mqtt

from service import CACHE, ROOT

HOST = "127.0.0.1"
MESSAGES = 60  # before 5.0 a client is sent 64 before it acknowledges
BYTES = 40_000
PATIENCE_S = 120
VERSIONS = {"3.1.1": mqtt.MQTTv311, "5.0": mqtt.MQTTv5}


def paho_client(name: str, transport: str, port: int, version: str, ca: str) -> mqtt.Client:
    kind = "websockets" if transport.startswith("ws") else "tcp"
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, protocol=VERSIONS[version], transport=kind)
    if kind == "websockets":
        client.ws_set_options(path="/mqtt")
    if transport in ("tls", "wss"):
        client.tls_set_context(ssl.create_default_context(cafile=ca))
    return client


class Paho:
    """Connected and subscribed."""

    def __init__(self, transport: str, port: int, version: str, ca: str, topic: str):
        self.ready, self.done, self.held = threading.Event(), threading.Event(), []
        self.client = paho_client(f"paho-{version}-{transport}", transport, port, version, ca)
        self.client.manual_ack_set(True)
        self.client.on_connect = lambda client, *_: client.subscribe(topic, 1)
        self.client.on_subscribe = lambda *_: self.ready.set()
        self.client.on_message = lambda _client, _userdata, message: self.take(message.mid)
        self.client.connect(HOST, port)
        self.client.loop_start()

    def take(self, mid: int) -> None:
        self.held.append(mid)
        if len(self.held) == MESSAGES:
            for held in self.held:
                self.client.ack(held, 1)
            self.done.set()

    def wait(self) -> str:
        return "" if self.done.wait(PATIENCE_S) else f"{len(self.held)} of {MESSAGES} messages"

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class MqttJs:
    """The same of mqtt.js."""

    def __init__(self, transport: str, port: int, version: str, ca: str):
        program = ["node", ROOT / "tests/node/batches.mjs", transport, str(port), ca, version, str(MESSAGES)]
        self.process = subprocess.Popen(program, env={**os.environ, "FOREBAY_NODE": str(CACHE / "node")}, stdout=subprocess.PIPE, text=True)
        self.ready = self.process.stdout.readline() == "ready\n"

    def wait(self) -> str:
        try:
            said, _ = self.process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            return "not all messages"
        return "" if said == "done\n" else f"it said {said!r}"

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()


def publish(port: int, topic: str) -> None:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "publisher")
    client.max_inflight_messages_set(MESSAGES)
    client.connect(HOST, port)
    client.loop_start()
    sent = [client.publish(topic, bytes(BYTES), 1) for _ in range(MESSAGES)]
    for of in sent:
        of.wait_for_publish(PATIENCE_S)
    client.disconnect()
    client.loop_stop()


def check(transport: str, port: int, version: str, ca: str, to: int) -> list[str]:
    topic = f"batch/{transport}/{version}"
    subscribers = {"Paho": Paho(transport, port, version, ca, topic), "mqtt.js": MqttJs(transport, port, version, ca)}
    try:
        if not (subscribers["Paho"].ready.wait(PATIENCE_S) and subscribers["mqtt.js"].ready):
            return [f"{transport}, {version}: no SUBACK"]
        publish(to, topic)
        faults = {name: subscriber.wait() for name, subscriber in subscribers.items()}
        return [f"{name} over {transport} in {version}: {fault}" for name, fault in faults.items() if fault]
    finally:
        for subscriber in subscribers.values():
            subscriber.close()


def main() -> None:
    ca, *named = sys.argv[1:]
    ports = {name: int(port) for name, port in (one.split("=") for one in named)}
    faults = [fault for name, port in ports.items() for version in VERSIONS for fault in check(name, port, version, ca, ports["tcp"])]
    print("\n".join(faults) or f"all of {len(ports) * len(VERSIONS)} pairs got {MESSAGES} messages and then acknowledged them")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
