"""The judges of several instances must be able to fail, and the swarm must measure what it says."""

import socket
import threading
import time
import types
import unittest
from collections import Counter

import events
import run
from events import Event
from fleet import AFTERMATH_S, Fleet
from instances import Growth, ends_between
from moves import InstanceLost, Takeovers, Waits, waits, within
from swarm import Served, Swarm

MS = 1_000_000


def served(client: int, at_ms: int, asked_ms: int, first_ms: int, present: bool = True) -> Served:
    return Served(client, at_ms * MS, asked_ms * MS, first_ms * MS, present)


class Judged(unittest.TestCase):
    def test_waits_are_of_those_who_were_touched_and_of_the_time_after(self):
        found = waits([served(1, 900, 5, 5), served(1, 1_400, 20, 300), served(2, 1_600, 30, 30), served(3, 1_500, 7, 7)], 1_000 * MS, {1, 2})
        self.assertEqual((found.count, found.lost, found.missing), (2, 0, 0))
        self.assertEqual((found.asked["max"], found.first["max"], found.begin["max"]), (30, 300, 600))

    def test_one_that_waits_too_long_is_not_served_or_has_lost_its_session_fails(self):
        good = [served(1, 1_400, 20, 2_900), served(2, 1_600, 30, 30)]
        judged = lambda found, clients={1, 2}: within(waits(found, 1_000 * MS, clients), "first", 3_000)
        self.assertTrue(judged(good))
        self.assertFalse(judged([served(1, 1_400, 20, 3_001), *good[1:]]), "late")
        self.assertFalse(judged(good, {1, 2, 3}), "one is missing")
        self.assertFalse(judged([*good[:1], good[1]._replace(present=False)]), "without its session")
        self.assertFalse(judged([], set()), "nobody was touched")
        self.assertFalse(judged([served(1, 1_400, 20, 3_001), *good]), "late once, and served again")

    def takeovers(self, **more) -> dict[str, bool]:
        """Ten of ten, each in time, if a test says nothing else."""
        made = Takeovers.__new__(Takeovers)
        made.checks, made.facts, made.made, made.left_open, made.ended = {}, {}, 10, 0, 0
        made.options = types.SimpleNamespace(takeovers=10, subscribers=3)
        made.swarm = types.SimpleNamespace(taken_over=10, copies=0, codes=Counter())
        made.waited = Waits(10, {"p99": 80, "max": 900}, None, None, 0, 0)
        for name, value in more.items():
            setattr(made, name, value)
        before, Fleet.judge = Fleet.judge, lambda _: None
        try:
            made.judge()
        finally:
            Fleet.judge = before
        return made.checks

    def test_takeovers_are_judged_by_number_session_time_and_what_they_ended(self):
        self.assertTrue(all(self.takeovers().values()))
        slow = {"p99": 100.1, "max": 900}, {"p99": 80, "max": 1_000}
        for more in (
            {"made": 9}, {"waited": Waits(10, {"p99": 80, "max": 900}, None, None, 1, 0)}, *({"waited": Waits(10, each, None, None, 0, 0)} for each in slow),
            {"left_open": 1}, {"ended": 1}, {"swarm": types.SimpleNamespace(taken_over=9, copies=0, codes=Counter())}, {"waited": Waits(0, None, None, None, 0, 0)},
        ):  # fmt: skip
            self.assertIn(False, self.takeovers(**more).values(), more)

    def test_an_instance_that_was_lost_is_judged_both_ways(self):
        good = Waits(5, {"max": 10}, {"max": 2_000}, {"max": 2_500}, 0, 0)
        for waited, passed in (({"killed": good, "frozen": good}, True), ({"killed": good}, False), ({"killed": good._replace(missing=1), "frozen": good}, False)):
            made = InstanceLost.__new__(InstanceLost)
            made.checks, made.facts, made.waited = {}, {}, waited
            made.options, made.swarm = types.SimpleNamespace(subscribers=5), types.SimpleNamespace(copies=0, codes=Counter())
            before, Fleet.judge = Fleet.judge, lambda _: None
            try:
                made.judge()
            finally:
                Fleet.judge = before
            self.assertEqual(all(made.checks.values()), passed, waited)

    def growth(self, ends: list[int], publishers: list[int], served_s: list[float]) -> bool:
        made = Growth.__new__(Growth)
        made.checks, made.facts = {}, {}
        made.steps = [{"name": "2 to 3", "ends": ends, "shared_s": 1.0, "served_s": served_s}]
        made.publishers = [Counter(dict.fromkeys(range(3), 1)), Counter(dict(enumerate(publishers)))]
        bases = [base for base in Growth.__mro__ if base is not Growth and "judge" in vars(base)]
        before, bases[0].judge = bases[0].judge, lambda _: None
        try:
            made.judge()
        finally:
            bases[0].judge = before
        return all(made.checks.values())

    def test_growth_fails_where_somebody_is_disconnected_twice_or_served_late(self):
        self.assertTrue(self.growth([0, 1, 1], [1, 0], [0.5, 4.9]))
        self.assertFalse(self.growth([0, 2, 1], [1, 0], [0.5, 4.9]), "a subscriber twice")
        self.assertFalse(self.growth([], [1, 0], [0.5, 4.9]), "nobody was looked at")
        self.assertFalse(self.growth([0, 1, 1], [2, 0], [0.5, 4.9]), "a publisher twice")
        self.assertFalse(self.growth([0, 1, 1], [1, 0], [0.5, 5.1]), "late")

    def test_what_publishers_lost_is_counted_between_marks(self):
        lost = lambda client: Event(0, 0, client, events.LOST, 0)
        mark = Event(0, 0, 0, events.MARK, 0)
        self.assertEqual(ends_between([lost(1), mark, lost(1), lost(2), lost(1), mark]), [{1: 1}, {1: 2, 2: 1}, {}])

    def test_a_span_of_a_fault_ends_some_time_after_it(self):
        made = Fleet.__new__(Fleet)
        made.spans_ns = [[10, 20], [30, None]]
        (begin, end), (_, open_end) = made.hurt_ns()
        self.assertEqual((begin, end), (10, 20 + AFTERMATH_S * 1e9))
        self.assertGreater(open_end, time.monotonic_ns())

    def test_scenarios_of_several_instances_are_not_in_short(self):
        planned = {options.name for options in run.plan(run.parser().parse_args(["short"]), "short")}
        self.assertTrue({"kill9", "machine"} <= planned)
        self.assertFalse({"instances", "growth", "takeovers", "instance-lost"} & planned)


class Server(threading.Thread):
    """Answers each CONNECT after `wait_s` by `connack`, and ends the connection that a client of this name had before, by DISCONNECT 0x8E."""

    names: dict[bytes, socket.socket] = {}  # of all servers

    def __init__(self, wait_s: float = 0.0, connack: bytes = b"\x20\x03\x01\x00\x00"):
        super().__init__(daemon=True)
        self.wait_s, self.connack, self.open = wait_s, connack, []
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:{}".format(self.sock.getsockname()[1])
        self.start()

    def run(self) -> None:
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            name = sock.recv(1_000)[-3:]
            time.sleep(self.wait_s)
            sock.sendall(self.connack)
            if self.connack[3]:
                sock.close()
                continue
            before, Server.names[name] = Server.names.get(name), sock
            self.open.append(sock)
            if before:
                before.sendall(b"\xe0\x01\x8e")
                before.close()


class Swarms(unittest.TestCase):
    def setUp(self):
        Server.names.clear()

    def swarm(self, *servers: Server, count: int = 2) -> Swarm:
        made = Swarm("s", count, lambda _: None, 1)
        self.addCleanup(made.close)
        for server in servers:
            self.addCleanup(server.sock.close)
        made.point([server.address for server in servers])
        made.connect_all()
        return made

    def test_a_takeover_is_timed_and_the_connection_before_it_ends(self):
        swarm = self.swarm(Server(), Server(wait_s=0.1))
        self.assertTrue(swarm.run(10, swarm.is_settled))
        swarm.served.clear()
        swarm.take_over(swarm.clients[0])
        self.assertTrue(swarm.run(10, lambda: len(swarm.served) == 1 and swarm.is_settled()))
        (found,) = swarm.served
        self.assertTrue(100 <= found.since_asked_ns / MS < 5_000 and found.present, found)
        self.assertEqual((swarm.taken_over, swarm.codes["taken over: DISCONNECT 0x8e"], swarm.clients[0].ends), (1, 1, 0))

    def test_one_that_is_cut_off_comes_back_and_counts(self):
        server = Server()
        swarm = self.swarm(server)
        self.assertTrue(swarm.run(10, swarm.is_settled))
        self.assertTrue(swarm.run(10, lambda: b"s-1" in Server.names))
        Server.names.pop(b"s-1").close()
        self.assertTrue(swarm.run(10, lambda: len(swarm.served) == 3 and swarm.is_settled()))
        self.assertEqual([client.ends for client in swarm.clients], [0, 1])

    def test_a_refusal_is_counted_and_the_wait_goes_on(self):
        refuses, takes = Server(connack=b"\x20\x03\x00\x88\x00"), Server()
        swarm = self.swarm(refuses, count=1)
        self.assertFalse(swarm.run(0.3, swarm.is_settled))
        self.assertGreater(swarm.codes["CONNACK 0x88"], 0)
        swarm.point([takes.address])
        self.addCleanup(takes.sock.close)
        self.assertTrue(swarm.run(10, swarm.is_settled))
        (found,) = swarm.served
        self.assertGreater(found.since_first_ns, 200 * MS)
        self.assertGreater(found.since_first_ns, found.since_asked_ns)

    def test_who_leaves_a_frozen_one_connects_elsewhere(self):
        frozen, other = Server(), Server()
        swarm = self.swarm(frozen, other)
        self.assertTrue(swarm.run(10, swarm.is_settled))
        swarm.point([other.address])
        self.assertEqual(swarm.abandon(frozen.address), 1)
        self.assertTrue(swarm.run(10, swarm.is_settled))
        self.assertEqual({conn.address for conn in swarm.conns.values()}, {("127.0.0.1", int(other.address.split(":")[1]))})
        self.assertEqual(sum(client.ends for client in swarm.clients), 1)


if __name__ == "__main__":
    unittest.main()
