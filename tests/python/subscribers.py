#!/usr/bin/env python3
"""Real clients as subscribers: `subscribers.py PORT`.

Eclipse Paho, mqtt.js and mosquitto_sub subscribe in every MQTT version, at every QoS; Paho and mqtt.js publish at every QoS. Each
subscriber has to get each message once, in order, at the lower QoS.
"""

import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

import paho.mqtt.client as mqtt

MESSAGES = 100
LEVELS = (0, 1, 2)
VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5.0": mqtt.MQTTv5}
PATIENCE_S = 60
HERE = Path(__file__).resolve().parent


class Heard:
    """What all subscribers have got."""

    def __init__(self):
        self.changed = threading.Condition()
        self.by_subscriber = defaultdict(lambda: defaultdict(list))

    def add(self, subscriber: tuple, topic: str, qos: int, payload: str) -> None:
        with self.changed:
            self.by_subscriber[subscriber][topic].append((qos, int(payload)))
            self.changed.notify()

    def complete(self, subscribers: list, topics: list) -> bool:
        got = self.by_subscriber
        return all(len(got[subscriber][topic]) >= MESSAGES for subscriber in subscribers for topic in topics)


def paho_subscriber(port: int, version: str, granted: int, heard: Heard) -> mqtt.Client:
    ready = threading.Event()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, f"paho-{version}-{granted}", protocol=VERSIONS[version])
    client.on_message = lambda _c, _u, m: heard.add(("paho", version, granted), m.topic, m.qos, m.payload.decode())
    client.on_connect = lambda c, *_: c.subscribe("+/+", granted)
    client.on_subscribe = lambda *_: ready.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    if not ready.wait(PATIENCE_S):
        raise SystemExit(f"Paho {version} at QoS {granted}: no SUBACK")
    return client


def read(process: subprocess.Popen, line_of, until=None) -> None:
    """Gives each line of a process to `line_of`; returns at the line `until`, or at the end."""
    for line in process.stdout:
        if line.strip() == until:
            return
        line_of(line.split())


def main(port: int) -> None:
    heard, subscribers, processes = Heard(), [], []
    for version in VERSIONS:
        for granted in LEVELS:
            subscribers.append(("mosquitto", version, granted))
            protocol = {"3.1": "mqttv31", "3.1.1": "mqttv311", "5.0": "mqttv5"}[version]
            # Into a pipe it would write a block at a time.
            command = ["stdbuf", "-oL", "mosquitto_sub", "-p", str(port), "-V", protocol, "-q", str(granted), "-t", "+/+", "-F", "%t %q %p"]
            process = subprocess.Popen([*command, "-d"], stdout=subprocess.PIPE, text=True, env={**os.environ, "LC_ALL": "C"})
            processes.append(process)
            # With -d it says when it has subscribed; what else it says has other words.
            for line in process.stdout:
                if line.startswith("Subscribed"):
                    break

            def add(words, subscriber=subscribers[-1]):
                if len(words) == 3 and "/" in words[0]:
                    heard.add(subscriber, words[0], int(words[1]), words[2])

            threading.Thread(target=read, args=(process, add), daemon=True).start()
    node = subprocess.Popen(
        ["node", str(HERE.parent / "node" / "subscriber.mjs"), str(port), str(MESSAGES)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    processes.append(node)
    clients = []
    for version in VERSIONS:
        for granted in LEVELS:
            subscribers += [("mqtt.js", version, granted), ("paho", version, granted)]
            clients.append(paho_subscriber(port, version, granted, heard))

    aliased = set()

    def add_js(words):
        if words[:1] == ["alias"]:
            aliased.add(words[2])
        if len(words) == 5:
            heard.add(("mqtt.js", words[0], int(words[1])), words[2], int(words[3]), words[4])

    # What mqtt.js publishes before it has printed `ready`, it has not.
    read(node, add_js, until="ready")
    threading.Thread(target=read, args=(node, add_js), daemon=True).start()
    for counter in range(MESSAGES):
        for qos in LEVELS:
            clients[counter % len(clients)].publish(f"paho/{qos}", str(counter), qos).wait_for_publish(PATIENCE_S)
    topics = [f"{by}/{qos}" for by in ("paho", "js") for qos in LEVELS]
    deadline = time.monotonic() + PATIENCE_S
    with heard.changed:
        while not heard.complete(subscribers, topics) and time.monotonic() < deadline:
            heard.changed.wait(1)
        faults = []
        for subscriber in subscribers:
            for topic in topics:
                wanted = [(min(int(topic[-1]), subscriber[2]), counter) for counter in range(MESSAGES)]
                got = heard.by_subscriber[subscriber][topic]
                if got != wanted:
                    faults.append(f"{' '.join(map(str, subscriber))} on {topic}: {len(got)} messages, not as published: {got[:5]}")
    if aliased != {str(granted) for granted in LEVELS}:
        faults.append(f"mqtt.js takes topic aliases, and was sent some at QoS {sorted(aliased)} only")
    for process in processes:
        process.kill()
    if faults:
        raise SystemExit("\n".join(faults))
    print(f"{len(subscribers)} subscribers, each with {len(topics) * MESSAGES} messages, once and in order")


if __name__ == "__main__":
    main(int(sys.argv[1]))
