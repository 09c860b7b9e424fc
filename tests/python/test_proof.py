"""Tests of what the proofs stand on: the proxy's delay, and the encoding of the requests that move leaders."""

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

import movers
import proof
import test_watch

PROXY = Path(__file__).with_name("proxy.py")
DELAY_MS = 60


class Proxy(unittest.TestCase):
    def setUp(self):
        self.echo = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.serve, daemon=True).start()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = [sys.executable, PROXY, str(self.port), f"127.0.0.1:{self.echo.getsockname()[1]}", str(DELAY_MS)]
        self.process = subprocess.Popen(command)

    def tearDown(self):
        self.process.kill()
        self.process.wait()
        self.echo.close()

    def serve(self):
        while True:
            try:
                connection, _ = self.echo.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    @staticmethod
    def answer(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(1 << 16):
                connection.sendall(data)
            connection.sendall(b"end")

    def connect(self) -> socket.socket:
        end = time.monotonic() + 30
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), timeout=30)
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def test_a_round_trip_takes_so_much_longer(self):
        with self.connect() as connection:
            for _ in range(3):
                began = time.monotonic()
                connection.sendall(b"ping")
                self.assertEqual(connection.recv(16), b"ping")
                self.assertGreaterEqual(time.monotonic() - began, DELAY_MS / 1000)

    def test_bytes_and_ends_come_through_in_order(self):
        sent = b"".join(n.to_bytes(4, "big") for n in range(200_000))
        with self.connect() as connection:
            threading.Thread(target=lambda: (connection.sendall(sent), connection.shutdown(socket.SHUT_WR)), daemon=True).start()
            found = bytearray()
            while data := connection.recv(1 << 16):
                found += data
        self.assertEqual(bytes(found), sent + b"end")


class Movers(unittest.TestCase):
    def test_what_is_written_is_read_back(self):
        data = movers.varint(300) + movers.text("topic") + movers.int32s([1, -2]) + b"\1\5\3abc" + b"\7"
        reader = movers.Reader(data)
        self.assertEqual(reader.varint(), 300)
        self.assertEqual(reader.text(), "topic")
        self.assertEqual([reader.take("i") for _ in reader.items()], [1, -2])
        reader.tags()
        self.assertEqual(reader.take("b"), 7)

    def test_a_request_is_as_the_protocol_has_it(self):
        asked = []

        def ask(_broker, kind, body):
            asked.append((kind, body))
            return movers.Reader(b"\0\0\0\1\0")  # no error, no text, no topics

        original, movers.ask = movers.ask, ask
        try:
            movers.reorder("broker", "t", {5: [2, 1]})
        finally:
            movers.ask = original
        expected = "00001388 02 0274 02 00000005 03 00000002 00000001 00 00 00"
        self.assertEqual(asked, [((45, 0), bytes.fromhex(expected))])


class Pages:
    """A service whose /metrics are these pages, one after the other."""

    def __init__(self, *pages: str):
        self.pages = list(pages)

    def get(self, _path: str) -> tuple[int, str]:
        return 200, self.pages.pop(0)


class Scrapes(unittest.TestCase):
    def judged(self, *pages: str) -> tuple[proof.Proof, list[dict]]:
        with tempfile.TemporaryDirectory() as folder:
            made = proof.Proof(argparse.Namespace(folder=Path(folder)))
            file = Path(folder) / "metrics.jsonl"
            made.recorder = proof.Recorder(Pages(*pages), file, 0)
            for _ in pages:
                made.recorder.line_s = 0
                made.recorder.look()
            made.recorder.file.close()
            made.judge_scrapes()
            return made, [json.loads(line) for line in file.read_text().splitlines()]

    def test_one_scrape_out_of_balance_fails_a_proof(self):
        right = test_watch.PAGE
        wrong = right.replace('result="delivered"} 13', 'result="delivered"} 12')
        made, _ = self.judged(right, right)
        self.assertEqual((made.checks, made.facts), ({"the ledgers balance at every scrape": True}, {"ledgers": "2 scrapes, 0 out of balance"}))
        made, _ = self.judged(right, wrong, right)
        self.assertEqual(made.checks, {"the ledgers balance at every scrape": False})
        self.assertIn("scrape 2: shard 0, sink flow", made.facts["out of balance"][0])

    def test_without_a_scrape_nothing_is_proved(self):
        self.assertEqual(self.judged()[0].checks, {"the ledgers balance at every scrape": False})

    def test_lines_have_what_has_changed(self):
        later = test_watch.PAGE.replace('acknowledgements_sent_total{shard="0"} 8', 'acknowledgements_sent_total{shard="0"} 9')
        lines = self.judged(test_watch.PAGE, later)[1]
        self.assertEqual((lines[0]["sink_records_in_publish"], lines[1] | {"s": 0}), (13, {"s": 0, "acknowledgements_sent": 9, "answers_owed": 5}))


if __name__ == "__main__":
    unittest.main()
