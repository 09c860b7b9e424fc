#!/usr/bin/env python3
"""Publishes numbered messages with Eclipse Paho, several clients in one process: `publisher.py JOB`.

JOB is a JSON file: {"host", "port", "logs", "clients": [{"id", "version", "qos", "messages", "kept"}]}. For every client a log is written
to `logs/ID.log` in the words that `checker.read_log` explains.
"""

import json
import sys
import threading
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

import message

WINDOW = 200  # messages handed to the library and not yet acknowledged
VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5.0": mqtt.MQTTv5}


class Publisher(threading.Thread):
    def __init__(self, job: dict, spec: dict):
        super().__init__(name=spec["id"])
        self.job, self.spec = job, spec
        self.log_file = open(Path(job["logs"], spec["id"] + ".log"), "w")
        self.changed = threading.Condition()
        self.connected = False
        self.waiting: dict[int, int] = {}  # packet id → counter, for what `publish` has returned
        self.early: set[int] = set()  # packet ids acknowledged before `publish` returned
        self.open = 0
        version = VERSIONS[spec["version"]]
        five = version == mqtt.MQTTv5
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, spec["id"], protocol=version, clean_session=None if five else not spec["kept"]
        )
        self.client.on_connect = self.on_connect
        self.client.on_disconnect = self.on_disconnect
        self.client.on_publish = self.on_publish
        self.client.reconnect_delay_set(1, 2)
        self.options = {}
        if five:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 3600 if spec["kept"] else 0
            self.options = {"clean_start": not spec["kept"], "properties": properties}

    def log(self, line: str) -> None:
        self.log_file.write(line + "\n")

    def on_connect(self, _client, _userdata, _flags, reason, _properties) -> None:
        with self.changed:
            self.log(f"e refused: {reason}" if reason.is_failure else "c")
            self.connected = not reason.is_failure
            self.changed.notify()

    def on_disconnect(self, _client, _userdata, _flags, reason, _properties) -> None:
        if reason.is_failure:
            with self.changed:
                self.log(f"x {reason}")

    def on_publish(self, _client, _userdata, packet_id, reason, _properties) -> None:
        # Paho calls this while it holds a lock that `publish` wants: so this lock is never held around `publish`.
        with self.changed:
            if self.spec["qos"] > 0 and reason.is_failure:
                self.log(f"e packet {packet_id} answered {reason}")
            if packet_id in self.waiting:
                self.acknowledged(self.waiting.pop(packet_id))
            else:
                self.early.add(packet_id)

    def acknowledged(self, counter: int) -> None:
        self.open -= 1
        if self.spec["qos"] > 0:
            self.log(f"a {counter}")
        if self.open == WINDOW // 2 or self.open == 0:
            self.changed.notify()

    def run(self) -> None:
        name, qos = self.spec["id"], self.spec["qos"]
        try:
            self.client.connect(self.job["host"], self.job["port"], keepalive=30, **self.options)
            self.client.loop_start()
            with self.changed:
                self.changed.wait_for(lambda: self.connected)
            for counter in range(self.spec["messages"]):
                level = counter % message.LEVELS
                with self.changed:
                    if self.open >= WINDOW:
                        self.changed.wait_for(lambda: self.open <= WINDOW // 2)
                    self.log(f"s {counter}")
                    self.open += 1
                payload = message.payload_of(name, counter, qos, level)
                packet_id = self.client.publish(message.topic_of(name, level), payload, qos).mid
                with self.changed:
                    if packet_id in self.early:
                        self.early.remove(packet_id)
                        self.acknowledged(counter)
                    else:
                        self.waiting[packet_id] = counter
            with self.changed:
                self.changed.wait_for(lambda: self.open == 0)
            self.client.disconnect()
            self.client.loop_stop()
            self.log("end")
        except Exception as error:  # one client's failure is a line in its log; the others go on
            self.log(f"e {error!r}")
        finally:
            self.log_file.flush()


def main() -> int:
    job = json.loads(Path(sys.argv[1]).read_text())
    publishers = [Publisher(job, spec) for spec in job["clients"]]
    for publisher in publishers:
        publisher.daemon = True
        publisher.start()
    for publisher in publishers:
        while publisher.is_alive():
            publisher.join(timeout=1)
            for other in publishers:  # so that a run that hangs can be read
                other.log_file.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
