#!/usr/bin/env python3
"""The participants of one library in the matrix of clients: `participants.py paho|aiomqtt|gmqtt|mosquitto JOB`.

`matrix.py` starts it, and says what job, input and output are. mosquitto's are mosquitto_sub and mosquitto_pub.
"""

import asyncio
import json
import os
import ssl
import subprocess
import sys
import threading
from contextlib import suppress
from typing import AsyncIterator, Iterator, NamedTuple

import aiomqtt
import gmqtt
import paho.mqtt.client as mqtt
from gmqtt.storage import PersistentStorage
from paho.mqtt.subscribeoptions import SubscribeOptions

HOST = "127.0.0.1"
PATH = "/mqtt"  # of WebSocket
PATIENCE_S = 60
ALIASES = 16  # for topics, in 5.0
PAHO_VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5.0": mqtt.MQTTv5}
AIOMQTT_VERSIONS = {"3.1.1": aiomqtt.ProtocolVersion.V311, "5.0": aiomqtt.ProtocolVersion.V5}
GMQTT_VERSIONS = {"3.1.1": gmqtt.constants.MQTTv311, "5.0": gmqtt.constants.MQTTv50}
MOSQUITTO_VERSIONS = {"3.1": "mqttv31", "3.1.1": "mqttv311", "5.0": "mqttv5"}

output = threading.Lock()


class Message(NamedTuple):
    participant: str
    topic: str
    qos: int
    payload: str


def say(*words: object) -> None:
    with output:
        print(*words, flush=True)


def message_of(line: str) -> Message:
    participant, topic, qos, payload = line.split()
    return Message(participant, topic, int(qos), payload)


def given() -> Iterator[Message]:
    """What is to be published."""
    return map(message_of, sys.stdin)


async def given_async() -> AsyncIterator[Message]:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for line in reader:
        yield message_of(line.decode())


def is_websocket(client: dict) -> bool:
    return client["transport"] in ("ws", "wss")


def tls_of(job: dict, client: dict) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=job["ca"]) if client["transport"] in ("tls", "wss") else None


def paho_filters(job: dict, client: dict) -> list:
    """As Paho takes them, and aiomqtt, which is made of it."""
    is_5 = client["version"] == "5.0"
    return [(to, SubscribeOptions(qos) if is_5 else qos) for to, qos in job["filters"].items()]


# ---- Eclipse Paho: a thread for each client


def paho_client(job: dict, spec: dict) -> mqtt.Client:
    """One that has subscribed."""
    name, subscribed = spec["name"], threading.Event()
    kind = "websockets" if is_websocket(spec) else "tcp"
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, protocol=PAHO_VERSIONS[spec["version"]], transport=kind)
    if is_websocket(spec):
        client.ws_set_options(path=PATH)
    if tls := tls_of(job, spec):
        client.tls_set_context(tls)
    client.on_connect = lambda client, *_: client.subscribe(paho_filters(job, spec))
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _client, _userdata, m: say(name, m.topic, m.qos, m.payload.decode())
    client.on_disconnect = lambda _client, _userdata, _flags, reason, _properties: reason.is_failure and say(name, "lost its connection:", reason)
    client.connect(HOST, spec["port"])
    client.loop_start()
    if not subscribed.wait(PATIENCE_S):
        raise SystemExit(f"{name}: no SUBACK")
    return client


def paho(job: dict) -> None:
    clients = {spec["name"]: paho_client(job, spec) for spec in job["clients"]}
    say("ready")
    sent = [(message, clients[message.participant].publish(message.topic, message.payload, message.qos)) for message in given()]
    for message, told in sent:
        told.wait_for_publish(PATIENCE_S)
        if not told.is_published():
            say(*message, "is not acknowledged")
    for client in clients.values():
        client.disconnect()
        client.loop_stop()


# ---- aiomqtt


async def hear(name: str, client: aiomqtt.Client) -> None:
    async for message in client.messages:
        say(name, message.topic, message.qos, message.payload.decode())


async def aiomqtt_participant(job: dict, spec: dict, to_publish: asyncio.Queue, subscribed: asyncio.Event) -> None:
    client = aiomqtt.Client(
        HOST,
        spec["port"],
        identifier=spec["name"],
        protocol=AIOMQTT_VERSIONS[spec["version"]],
        transport="websockets" if is_websocket(spec) else "tcp",
        websocket_path=PATH if is_websocket(spec) else None,
        tls_context=tls_of(job, spec),
        timeout=PATIENCE_S,
    )
    async with client:
        await client.subscribe(paho_filters(job, spec))
        hearing = asyncio.create_task(hear(spec["name"], client))
        subscribed.set()
        while message := await to_publish.get():
            await client.publish(message.topic, message.payload, message.qos)  # acknowledged then
        if hearing.done():
            hearing.result()
        hearing.cancel()


async def aiomqtt_participants(job: dict) -> None:
    async with asyncio.TaskGroup() as tasks:
        queues, subscribed = {}, []
        for spec in job["clients"]:
            queues[spec["name"]] = asyncio.Queue()
            subscribed.append(asyncio.Event())
            tasks.create_task(aiomqtt_participant(job, spec, queues[spec["name"]], subscribed[-1]))
        for event in subscribed:
            await event.wait()
        say("ready")
        async for message in given_async():
            queues[message.participant].put_nowait(message)
        for queue in queues.values():
            queue.put_nowait(None)


# ---- gmqtt


class Gmqtt:
    """One client."""

    def __init__(self, job: dict, spec: dict):
        self.job, self.spec, self.name = job, spec, spec["name"]
        self.unacknowledged, self.subscribed, self.is_leaving = PersistentStorage(), asyncio.Event(), False
        aliases = {"topic_alias_maximum": ALIASES} if spec["version"] == "5.0" else {}
        self.client = gmqtt.Client(self.name, persistent_storage=self.unacknowledged, **aliases)
        self.client.on_message = self.heard
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_disconnect = lambda *_: self.is_leaving or say(self.name, "lost its connection")

    def heard(self, _client: gmqtt.Client, topic: str, payload: bytes, qos: int, properties: dict) -> None:
        if "topic_alias" in properties:
            say("alias", self.name)
        say(self.name, topic, qos, payload.decode())

    async def subscribe(self) -> None:
        await self.client.connect(HOST, self.spec["port"], ssl=tls_of(self.job, self.spec) or False, version=GMQTT_VERSIONS[self.spec["version"]])
        self.client.subscribe([gmqtt.Subscription(to, qos) for to, qos in self.job["filters"].items()])
        await self.subscribed.wait()

    async def leave(self) -> None:
        await self.unacknowledged.wait_empty()
        self.is_leaving = True
        with suppress(ssl.SSLError):  # what the service still sends, a PUBREL perhaps, is none of an orderly end
            await self.client.disconnect()


async def gmqtt_participants(job: dict) -> None:
    participants = {spec["name"]: Gmqtt(job, spec) for spec in job["clients"]}
    for participant in participants.values():
        await participant.subscribe()
    say("ready")
    async for message in given_async():
        participants[message.participant].client.publish(message.topic, message.payload, message.qos)
    for participant in participants.values():
        await participant.leave()


# ---- mosquitto_sub and mosquitto_pub: a process for each QoS of a subscription, and for each topic


class Mosquitto:
    """The processes of one participant."""

    def __init__(self, job: dict, spec: dict):
        self.name, self.is_leaving = spec["name"], False
        self.common = ["-h", HOST, "-p", str(spec["port"]), "-V", MOSQUITTO_VERSIONS[spec["version"]]]
        self.common += ["--cafile", job["ca"]] if spec["transport"] == "tls" else []
        self.publishers: dict[str, subprocess.Popen] = {}
        self.subscribers = [self.subscriber(to, qos) for to, qos in job["filters"].items()]
        self.readers = [threading.Thread(target=self.read, args=(process,), daemon=True) for process in self.subscribers]
        for reader in self.readers:
            reader.start()

    def subscriber(self, to: str, qos: int) -> subprocess.Popen:
        """One that has subscribed, as -d makes it say; its other words about itself are left out here and by `read`."""
        command = ["mosquitto_sub", *self.common, "-i", f"{self.name}-s{qos}", "-t", to, "-q", str(qos), "-F", f"{self.name} %t %q %p", "-d"]
        # Into a pipe it would write a block at a time.
        process = subprocess.Popen(
            ["stdbuf", "-oL", *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=os.environ | {"LC_ALL": "C"}
        )
        for line in process.stdout:
            if line.startswith("Subscribed"):
                break
        return process

    def read(self, process: subprocess.Popen) -> None:
        for line in process.stdout:
            if line.startswith(f"{self.name} "):
                say(line.strip())
        if not self.is_leaving:
            say(self.name, "lost a mosquitto_sub")

    def publish(self, message: Message) -> None:
        if message.topic not in self.publishers:
            identity = f"{self.name}-p{len(self.publishers)}"
            command = ["mosquitto_pub", *self.common, "-i", identity, "-t", message.topic, "-q", str(message.qos), "-l"]
            self.publishers[message.topic] = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
        pipe = self.publishers[message.topic].stdin
        pipe.write(f"{message.payload}\n")
        pipe.flush()

    def kill(self) -> None:
        for process in (*self.subscribers, *self.publishers.values()):
            process.kill()

    def finish(self) -> None:
        """Until what it published is acknowledged. mosquitto_sub is told to end, which takes it up to a second."""
        for process in self.publishers.values():
            process.stdin.close()
        for topic, process in self.publishers.items():
            if status := process.wait(PATIENCE_S):
                say(self.name, topic, "mosquitto_pub ended with status", status)
        self.is_leaving = True
        for process in self.subscribers:
            process.terminate()

    def wait(self) -> None:
        for process, reader in zip(self.subscribers, self.readers):
            process.wait(PATIENCE_S)
            reader.join()


def mosquitto(job: dict) -> None:
    participants = {spec["name"]: Mosquitto(job, spec) for spec in job["clients"]}
    say("ready")
    try:
        for message in given():
            participants[message.participant].publish(message)
        for participant in participants.values():
            participant.finish()
        for participant in participants.values():
            participant.wait()
    finally:
        for participant in participants.values():
            participant.kill()


if __name__ == "__main__":
    library, job = sys.argv[1], json.loads(sys.argv[2])
    if library in ("aiomqtt", "gmqtt"):
        asyncio.run({"aiomqtt": aiomqtt_participants, "gmqtt": gmqtt_participants}[library](job))
    else:
        {"paho": paho, "mosquitto": mosquitto}[library](job)
