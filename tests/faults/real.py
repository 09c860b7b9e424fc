"""Real clients as kept subscribers beside those of our own: mosquitto_sub, Paho (paho_kept.py) and mqtt.js (tests/node/kept.mjs). They come back by
themselves, always to the same port, and say a line for each message that they hand on: `copy NAME TOPIC QOS HEX`, and `ready NAME` after SUBACK. What happens on their connections is theirs to judge."""

import asyncio
import json
import os
import random
import sys
from pathlib import Path

from copies import Copy, Filter, Heard
from messages import Payloads, Wrong

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("FOREBAY_CACHE", ROOT / ".cache"))
HERE = Path(__file__).resolve().parent
PROGRAMS = ("mosquitto_sub", "paho", "mqtt.js")
VERSIONS = ("3.1.1", "5.0")


class Real:
    """All of them."""

    def __init__(self, job: dict, payloads: Payloads):
        self.job, self.payloads = job, payloads
        self.processes: list[asyncio.subprocess.Process] = []
        self.readers: list[asyncio.Task] = []
        self.subscribed: set[str] = set()
        self.found: dict[str, Heard] = {}
        self.clients = [self.client(*of) for of in self.kinds()] if job["real"] else []
        for client in self.clients:
            self.found[client["name"]] = Heard(client["name"], [Filter(text, client["qos"]) for text in client["filters"]])

    @staticmethod
    def kinds() -> list[tuple[str, str, int]]:
        return [(program, version, qos) for program in PROGRAMS for version in VERSIONS for qos in (1, 2)]

    def client(self, program: str, version: str, qos: int) -> dict:
        job, name = self.job, f"{program}-{version}-{qos}-{self.job['round']}"
        chance = random.Random(f"{job['seed']} {name}")
        exact = f"flow/{job['round']}/{chance.randrange(job['clients'])}/{chance.randrange(job['topics'])}"
        return {"program": program, "name": name, "version": version, "qos": qos, "filters": [exact, f"flow/{job['round']}/{chance.randrange(job['clients'])}/+"]}

    def count(self) -> int:
        return len(self.clients)

    def ready(self) -> int:
        return len(self.subscribed)

    def copies(self) -> int:
        return sum(len(heard.copies) for heard in self.found.values())

    def heard(self) -> list[Heard]:
        return list(self.found.values())

    async def start(self) -> None:
        for client in self.clients:
            if client["program"] == "mosquitto_sub":
                await self.spawn(*self.mosquitto(client), name=client["name"])
        for program, command in (("paho", [sys.executable, HERE / "paho_kept.py"]), ("mqtt.js", ["node", ROOT / "tests/node/kept.mjs"])):
            some = [client for client in self.clients if client["program"] == program]
            if some:
                await self.spawn(*command, json.dumps({"port": self.job["port"], "clients": some}))

    def mosquitto(self, client: dict) -> list[object]:
        version = {"3.1.1": ["-V", "mqttv311"], "5.0": ["-V", "mqttv5", "-x", "3600"]}[client["version"]]
        topics = [word for text in client["filters"] for word in ("-t", text)]
        form = f"copy {client['name']} %t %q %x"
        # Into a pipe it would write a block at a time; with -d it says when it has subscribed.
        return ["stdbuf", "-oL", "mosquitto_sub", "-d", "-c", "-p", self.job["port"], "-i", client["name"], "-q", client["qos"], *version, *topics, "-F", form]

    async def spawn(self, *command: object, name: str = "") -> None:
        environment = {"FOREBAY_NODE": str(CACHE / "node")} | os.environ | {"LC_ALL": "C"}
        with open(self.job["heard"] + ".real", "ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *map(str, command), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=errors, env=environment, limit=1 << 20,
            )  # fmt: skip
        self.processes.append(process)
        self.readers.append(asyncio.create_task(self.read(process, name)))

    async def read(self, process: asyncio.subprocess.Process, name: str) -> None:
        while line := await process.stdout.readline():
            self.line(line.decode().split(), name)

    def line(self, words: list[str], name: str) -> None:
        if words[:1] == ["copy"] and len(words) == 5:
            self.copy(*words[1:])
        elif words[:1] == ["ready"]:
            self.subscribed.add(words[1])
        elif words[:1] == ["Subscribed"]:
            self.subscribed.add(name)
        elif words[:1] == ["lost"]:
            self.found[words[1]].faults.append(("S: session lost", "CONNACK"))

    def copy(self, name: str, topic: str, qos: str, payload: str) -> None:
        heard = self.found[name]
        try:
            key, _ = self.payloads.read(bytes.fromhex(payload))
        except Wrong as why:
            return heard.faults.append(("I4: foreign or altered", f"{why} on {topic}"))
        heard.copies.append(Copy(-1, key, topic, int(qos)))
        heard.handed_on[key] += qos == "2"

    async def end(self) -> None:
        """They end, and all that they have said is read."""
        self.kill()
        await asyncio.gather(*(process.wait() for process in self.processes), *self.readers)

    def kill(self) -> None:
        for process in self.processes:
            if process.returncode is None:
                process.kill()
