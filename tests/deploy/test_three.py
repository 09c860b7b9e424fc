"""Three instances of one broker at a real Kafka: another version and other routes, machine by machine, as docs/CLUSTER.md says; and a real HAProxy in front, with
deploy/haproxy/haproxy.cfg. Clients come to the same instance by their identifier, with their own addresses; what is drained gets no more of them; what is killed is left at once, and its clients find their sessions through HAProxy.

Run by `scripts/test deploy`; FOREBAY_BINARY names the program (default: target/debug/forebay), FOREBAY_TEST_KAFKA a Kafka (default: one is started). Without
`haproxy` these tests fail.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("FOREBAY_BINARY", ROOT / "target/debug/forebay"))
CONFIG = ROOT / "deploy/haproxy/haproxy.cfg"
NAMES = ("a", "b", "c")
# Every address of 127.0.0.0/8 is this machine's.
CLIENT = "127.0.0.9"
CLIENTS = 24


def until(what, so, seconds=90):
    """Waits until something holds, and returns it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := so():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


class Instance:
    """The program, one of three, with listeners that HAProxy alone may connect to."""

    def __init__(self, folder, name, kafka, topics):
        self.name, self.folder = name, Path(folder) / name
        self.folder.mkdir()
        self.config = self.folder / "forebay.toml"
        self.config.write_text(
            f'[service]\nshards = 1\npin = false\ndata_dir = "{self.folder}/data"\n[control]\nbind = "127.0.0.1:0"\n'
            '[[listener]]\nbind = "127.0.0.1:0"\nproxy_protocol = "v2"\nproxy_from = "127.0.0.0/8"\n'
            f'[kafka.main]\nbootstrap = "{kafka}"\n'
            f'[broker]\nname = "{name}"\nsession_timeout = "6s"\npartitions = 3\n'
            f'messages = "{topics}-messages"\nretained = "{topics}-retained"\nsessions = "{topics}-sessions"\n'
            '[broker.link]\nbind = "127.0.0.1:0"\n'
        )
        self.log = self.folder / "log"
        self.process = None
        self.start()

    def start(self):
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([BINARY, "run", "--config", self.config], stdout=log, stderr=subprocess.STDOUT)

    def said(self, words):
        found = re.search(words + r".*?127\.0\.0\.1:(\d+)", self.log.read_text())
        return found and int(found[1])

    def get(self, path):
        """Status and JSON (or text) of an answer; (0, None): there is none."""
        control = self.said("control listening on")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{control}{path}", timeout=10) as answer:
                status, body = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, body = error.code, error.read().decode()
        except OSError:
            return 0, None
        try:
            return status, json.loads(body)
        except ValueError:
            return status, body

    def is_ready(self):
        return bool(self.said("control listening on")) and self.get("/readyz")[0] == 200

    def command(self, *arguments):
        return subprocess.run([BINARY, *arguments, "--config", self.config], capture_output=True, text=True, timeout=120)

    def stop(self, signal="terminate"):
        if self.process.poll() is None:
            getattr(self.process, signal)()
            self.process.wait(60)


class Client:
    """A client with a kept session and a subscription, which connects again by itself, from an address of its own."""

    def __init__(self, number, port):
        self.id, self.messages, self.connects = f"client-{number}", [], []
        self.paho = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, self.id, protocol=mqtt.MQTTv5)
        self.paho.reconnect_delay_set(1, 2)
        self.paho.on_connect = self.connected
        self.paho.on_message = lambda _client, _data, message: self.messages.append(message.payload.decode())
        expiry = Properties(PacketTypes.CONNECT)
        expiry.SessionExpiryInterval = 3_600
        self.paho.connect(
            "127.0.0.1", port, keepalive=10, bind_address=CLIENT, clean_start=mqtt.MQTT_CLEAN_START_FIRST_ONLY, properties=expiry
        )
        self.paho.loop_start()

    def connected(self, client, _data, flags, code, _properties):
        self.connects.append((flags.session_present, code.value))
        if code.value == 0 and not flags.session_present:
            client.subscribe("news", qos=1)

    def is_connected(self):
        return self.paho.is_connected()

    def stop(self):
        self.paho.disconnect()
        self.paho.loop_stop()

    def comes_again(self):
        self.stop()
        self.paho.reconnect()
        self.paho.loop_start()


class Three(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def kafka(self):
        if there := os.environ.get("FOREBAY_TEST_KAFKA"):
            return there
        script, place = os.environ.get("FOREBAY_KAFKA_SCRIPT", ROOT / "scripts/kafka"), self.folder / "kafka"
        self.addCleanup(subprocess.run, [script, "stop", "--delete", "--dir", place], check=True, capture_output=True)
        return subprocess.run([script, "start", "--dir", place], check=True, capture_output=True, text=True).stdout.strip()

    def start(self):
        """Three instances that are ready, each with its part of the slots. Returns what the names of their topics begin with."""
        kafka, topics = self.kafka(), f"deploy-{os.getpid()}-{time.time_ns()}"
        self.instances = []
        for name in NAMES:
            self.instances.append(Instance(self.folder, name, kafka, topics))
            self.addCleanup(self.instances[-1].stop, "kill")
        until("all to be ready", lambda: all(each.is_ready() for each in self.instances))
        self.have_parts()
        return topics

    def have_parts(self):
        until("slots in equal parts", lambda: any(self.served(dict(zip(NAMES, parts))) for parts in ((22, 21, 21), (21, 22, 21), (21, 21, 22))))

    def slots(self, instance):
        """How many slots each instance has, as one of them says."""
        status, table = instance.get("/api/v1/broker/slots")
        return {one["name"]: len(one["slots"]) for one in table["instances"]} if status == 200 else {}

    def alive(self):
        return [instance for instance in self.instances if instance.process.poll() is None]

    def served(self, counts):
        """Whether each instance has as many slots, and all of them say so."""
        return all(self.slots(instance) == counts for instance in self.alive())


class MachineByMachine(Three):
    """The procedures of docs/CLUSTER.md, "How to run three"."""

    def restart(self, instance):
        instance.stop()
        self.assertEqual(instance.process.returncode, 0, instance.log.read_text())
        instance.start()
        until(f"{instance.name} to be ready", instance.is_ready)

    def test_another_version(self):
        self.start()
        for instance in self.instances:
            drained = instance.command("drain")
            self.assertEqual((drained.returncode, drained.stdout), (0, "drained: other instances have all slots\n"), drained.stderr)
            self.assertEqual(self.slots(instance)[instance.name], 0)
            self.restart(instance)
            self.have_parts()

    def test_other_routes(self):
        topics = self.start()
        for instance in self.instances:
            text = instance.config.read_text()
            instance.config.write_text(f'{text}[[broker.route]]\nfilters = ["place/#"]\ntopic = "{topics}-places"\n')
        a, b, c = self.instances
        self.restart(c)
        until("the first two to serve", lambda: self.served({"a": 32, "b": 32, "c": 0}))
        self.assertIn("instances_trouble", c.log.read_text())
        self.restart(b)
        until("the last two to serve", lambda: self.served({"a": 0, "b": 32, "c": 32}))
        self.restart(a)
        self.have_parts()


class HAProxy(Three):
    def setUp(self):
        super().setUp()
        self.assertIsNotNone(shutil.which("haproxy"), "haproxy is missing: scripts/test install")

    def test_the_configuration_is_valid(self):
        checked = subprocess.run(["haproxy", "-c", "-f", CONFIG], capture_output=True, text=True)
        self.assertEqual((checked.returncode, checked.stderr), (0, ""), checked.stdout)

    def haproxy(self, instances):
        """Starts it with the configuration of deploy/, at the addresses of these instances; the port for clients."""
        text, port = CONFIG.read_text(), free_port()
        text = text.replace("bind :1883", f"bind 127.0.0.1:{port}").replace("check port 8080", "check")
        # As many descriptors as a user has anywhere.
        text = text.replace("maxconn 200000", "maxconn 100")
        for number, instance in enumerate(instances, 1):
            listener, control = instance.said("mqtt listening on"), instance.said("control listening on")
            text = text.replace(f"10.0.0.{number}:1883", f"127.0.0.1:{listener} port {control}")
        self.assertNotIn("10.0.0.", text)
        file, log = self.folder / "haproxy.cfg", (self.folder / "haproxy.log").open("wb")
        file.write_text(text)
        process = subprocess.Popen(["haproxy", "-db", "-f", file], stdout=log, stderr=subprocess.STDOUT)
        self.addCleanup(log.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        def listens():
            self.assertIsNone(process.poll(), (self.folder / "haproxy.log").read_text())
            with socket.socket() as tried:
                return tried.connect_ex(("127.0.0.1", port)) == 0

        until("HAProxy to listen", listens)
        return port

    def fronts(self):
        """Through which instance each client has come, which has its own address."""
        fronts = {}
        for instance in self.alive():
            for client in instance.get("/api/v1/clients?limit=1000")[1]["clients"]:
                one = instance.get(f"/api/v1/clients/{client['client_id']}")[1]
                if one["connected"]:
                    self.assertTrue(one["address"].startswith(CLIENT), one)
                    fronts[client["client_id"]] = one.get("front") or instance.name
        return fronts

    def all_are_connected(self):
        try:
            until("all to be connected", lambda: all(client.is_connected() for client in self.clients))
        except AssertionError as error:
            away = {client.id: client.connects[-3:] for client in self.clients if not client.is_connected()}
            logs = [f"{each.name}: {each.log.read_text()[-1500:]}" for each in self.instances]
            raise AssertionError(f"{error}: {away}; {(self.folder / 'haproxy.log').read_text()[-1500:]}; {' '.join(logs)}") from error

    def all_get(self, text):
        """A message through HAProxy, which each client gets."""
        publisher = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "", protocol=mqtt.MQTTv5)

        def publish(client, _data, _flags, code, _properties):
            if code.value == 0:
                client.publish("news", text, qos=1)

        publisher.on_connect = publish
        publisher.reconnect_delay_set(1, 2)
        publisher.connect("127.0.0.1", self.port)
        publisher.loop_start()
        until(f"{text} to reach all", lambda: all(text in client.messages for client in self.clients))
        publisher.disconnect()
        publisher.loop_stop()

    def test_three_instances(self):
        self.start()
        a, _, c = self.instances
        self.port = self.haproxy(self.instances)
        self.clients = [Client(number, self.port) for number in range(CLIENTS)]
        for client in self.clients:
            self.addCleanup(client.stop)
        self.all_are_connected()
        self.all_get("first")
        before = until("all clients", lambda: len(found := self.fronts()) >= CLIENTS and found)
        self.assertEqual({before[client.id] for client in self.clients}, set(NAMES), "each instance has some")

        # They come back to where they were.
        for client in self.clients[:8]:
            client.comes_again()
        self.all_are_connected()
        again = until("all clients", lambda: len(found := self.fronts()) >= CLIENTS and found)
        self.assertEqual({client.id: again[client.id] for client in self.clients}, {client.id: before[client.id] for client in self.clients})

        # Killed: HAProxy leaves it, the others serve its clients.
        c.stop("kill")
        until("its slots to be the others'", lambda: self.served({"a": 32, "b": 32}))
        self.all_are_connected()
        self.all_get("second")
        self.assertTrue(all(present for client in self.clients for present, code in client.connects[1:] if code == 0), "sessions are kept")

        # Drained: no new client comes to it, and no message is missed.
        drained = a.command("drain")
        self.assertEqual(drained.returncode, 0, drained.stderr)
        self.assertEqual(a.get("/readyz")[0], 503)
        self.all_are_connected()
        self.all_get("third")
        time.sleep(3)  # HAProxy has asked twice by now.
        for client in self.clients:
            client.comes_again()
        until("all by the other one", lambda: set(self.fronts().values()) == {"b"})
        a.stop()
        self.assertEqual(a.process.returncode, 0, a.log.read_text())
        self.all_get("fourth")
        for client in self.clients:
            self.assertEqual(sorted(set(client.messages)), ["first", "fourth", "second", "third"])


if __name__ == "__main__":
    unittest.main()
