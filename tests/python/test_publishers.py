"""The publishing programs against a broker that is not ours: Debian's mosquitto on a free port. Shows that the programs, their logs and the
message format are right before they are used to judge Forebay. A missing tool is a failure that names scripts/test, never a skip."""

import shutil
import socket
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

import checker
import message
import publishers


class Broker:
    """mosquitto, started by pid, with a subscriber that keeps all it hears."""

    def __init__(self, folder: Path):
        import paho.mqtt.client as mqtt

        program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
        if program is None:
            raise AssertionError("mosquitto is missing: scripts/test installs it")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        config = folder / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\nuser root\n")
        self.process = subprocess.Popen([program, "-c", config], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.heard: list[tuple[str, bytes]] = []
        self.changed = threading.Condition()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "listener", protocol=mqtt.MQTTv311)
        self.client.on_message = self.on_message
        ready = threading.Event()
        self.client.on_subscribe = lambda *_: ready.set()
        for _ in range(500):
            try:
                self.client.connect("127.0.0.1", self.port)
                break
            except OSError:
                time.sleep(0.02)
        self.client.subscribe("#", 2)
        self.client.loop_start()
        assert ready.wait(30)

    def on_message(self, _client, _userdata, heard) -> None:
        with self.changed:
            self.heard.append((heard.topic, heard.payload))
            self.changed.notify()

    def wait_for(self, condition) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, 60)

    def stop(self) -> None:
        self.client.loop_stop()
        self.process.terminate()
        self.process.wait()


class DeafBroker(threading.Thread):
    """Accepts every client and answers nothing else."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.changed = threading.Condition()
        self.publishing = 0
        self.connections: list[socket.socket] = []
        self.start()

    def run(self) -> None:
        try:
            while True:
                connection, _ = self.listener.accept()
                self.connections.append(connection)
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()
        except OSError:
            pass  # stopped

    def serve(self, connection: socket.socket) -> None:
        try:
            connect = connection.recv(4096)
            level = connect[connect.index(b"MQ") :].lstrip(b"MQTIsdp")[0]
            connection.sendall(bytes([0x20, 3, 0, 0, 0] if level == 5 else [0x20, 2, 0, 0]))
            if connection.recv(65536):
                with self.changed:
                    self.publishing += 1
                    self.changed.notify()
            while connection.recv(65536):
                pass
        except OSError:
            pass  # the client was ended

    def heard_from(self, clients: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.publishing >= clients, 60)

    def stop(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        for connection in (self.listener, *self.connections):
            connection.close()


class Publishers(unittest.TestCase):
    def test_every_kind_version_and_qos(self):
        for tool in ("mosquitto_pub", "node"):
            self.assertIsNotNone(shutil.which(tool), f"{tool} is missing: scripts/test installs it")
        specs = publishers.plan(80, 7_000)
        combinations = {(s["kind"], s["version"], s["qos"]) for s in specs}
        self.assertEqual(combinations, {(k, *c) for k, kind in publishers.KINDS.items() for c in kind[3]})
        with tempfile.TemporaryDirectory() as folder:
            broker = Broker(Path(folder))
            self.addCleanup(broker.stop)
            run = publishers.Publishers(Path(folder), broker.port, specs)
            self.assertEqual(run.wait(120), [])
            broker.wait_for(lambda: len(broker.heard) >= 7_000)
            heard = {(m.client, m.counter) for topic, payload in broker.heard if (m := message.parse(payload)) and topic == message.topic_of(m.client, m.level)}
            self.assertEqual(len(heard), len(broker.heard), "a message that is not of the format, or one twice")
            for spec in specs:
                told = checker.read_log(run.logs / f"{spec['id']}.log", spec["qos"])
                with self.subTest(spec["id"]):
                    self.assertEqual((told.errors, told.finished, told.sent), ([], True, spec["messages"]))
                    self.assertEqual(told.acknowledged, set(range(told.sent)) if spec["qos"] else set())
                    self.assertEqual({n for client, n in heard if client == spec["id"]}, set(range(told.sent)))

    def test_a_broker_that_never_answers_is_never_taken_for_one_that_did(self):
        specs = publishers.plan(8, 8_000)
        self.assertTrue(all(spec["qos"] > 0 for spec in specs))
        with tempfile.TemporaryDirectory() as folder:
            broker = DeafBroker()
            self.addCleanup(broker.stop)
            run = publishers.Publishers(Path(folder), broker.port, specs)
            self.addCleanup(run.kill)
            self.assertTrue(broker.heard_from(len(specs)), "not every client has published something")
            self.assertEqual(len(run.running()), len(run.processes))
            run.kill()
            for spec in specs:
                told = checker.read_log(run.logs / f"{spec['id']}.log", spec["qos"])
                self.assertEqual((told.finished, told.acknowledged), (False, set()), spec["id"])


if __name__ == "__main__":
    unittest.main()
