"""The tools of tests/faults themselves: a judge that misses something, or a proxy that lets everything through, proves nothing.
What the generator's judge finds is tested in bench/ (judge_tests.rs)."""

import argparse
import asyncio
import re
import struct
import unittest

import broken
import events
import run
import scenarios
import wire
from stand import Stand, quantiles


def options(*words: str, name: str = "kill9", size: str = "") -> argparse.Namespace:
    return run.of(run.parser().parse_args([name, *words]), name, size)


class Marks(unittest.TestCase):
    """I7."""

    def judged(self, *spans: tuple[int | None, int]) -> bool:
        """By spans of (first answer in ms, length in ms)."""
        stand = Stand.__new__(Stand)
        stand.facts, stand.checks = {}, {}
        stand.marks = [{"name": "up", "at_ms": 0, "ended_ms": length, "first_answer_ms": first, "silence_ms": 0} for first, length in spans]
        stand.answered_within("up", 5, "up")
        (verdict,) = stand.checks.values()
        return verdict

    def test_every_span_has_to_be_answered_in_time(self):
        self.assertTrue(self.judged((40, 9_000), (4_999, 9_000)))
        self.assertFalse(self.judged((40, 9_000), (5_001, 9_000)))
        self.assertFalse(self.judged((None, 9_000)), "never")
        self.assertTrue(self.judged((40, 9_000), (None, 1_000)), "killed again before its time was over")
        self.assertFalse(self.judged(), "nothing was looked at")

    def test_quantiles(self):
        self.assertEqual(quantiles(list(range(1, 101))), {"count": 100, "p50": 51, "p99": 100, "max": 100})
        self.assertIsNone(quantiles([]))


class Verdicts(unittest.TestCase):
    def test_each_kind_of_fault_has_its_invariant(self):
        kinds = {
            "I1: lost at QoS 2": "I1", "I2: doubled at QoS 2": "I2", "I3: order": "I3", "I3: old copy behind newer messages": "I3",
            "I4: altered value": "I4", "P: key in a wrong partition": "I4", "S: session lost": "S", "R: the reader stopped early": "R",
            "J1: missing, published at QoS 2": "J1", "J12: not at rest": "J12", "Q1: where no rule puts it, skip": "Q1", "J2: doubled at QoS 2": "J2",
            "client did not finish": "finished", "against the standard": "standard", "something else": "other",
        }  # fmt: skip
        for kind, name in kinds.items():
            found = run.invariants({kind: {"count": 3, "examples": []}})
            self.assertEqual({n: c for n, c in found.items() if c}, {name: 3}, kind)

    def test_what_is_broken_is_caught_by_the_right_invariant_only(self):
        def record(**found: int) -> dict:
            return {"invariants": dict.fromkeys(run.INVARIANTS, 0) | found}

        self.assertIsNone(broken.verdict("received", "FAILED", record(I1=4)))
        self.assertIsNone(broken.verdict("cut-not-synced", "FAILED", record(I2=1, I3=1)))
        self.assertIn("nothing", broken.verdict("received", "passed", record()))
        self.assertIn("found I3", broken.verdict("received", "FAILED", record(I3=4)))
        self.assertIn("not judged", broken.verdict("received", "FAILED", None))

    def test_a_sum_says_what_subscribers_got(self):
        facts = {"copies expected": 12_345, "missing": 1, "doubled at QoS 2": 2, "out of order": 3}
        self.assertEqual(run.of_subscribers(facts), "; 12,345 copies    1 missing    2 of QoS 2 doubled    3 out of order")
        self.assertEqual(run.of_subscribers({"cycles": 3}), "")

    def test_where_nothing_is_broken_the_run_must_pass(self):
        self.assertIsNone(broken.verdict("nothing", "passed", {"invariants": {"I1": 0}}))
        self.assertIn("found I1", broken.verdict("nothing", "FAILED", {"invariants": {"I1": 2}}))
        self.assertIn("not judged", broken.verdict("nothing", "FAILED", None))

    def test_what_can_be_broken_is_what_the_service_knows(self):
        source = (broken.ROOT / "tests/broken/service.rs").read_text()
        named = set(re.findall(r'\("([a-z-]+)", &', source))
        self.assertEqual(named, {made.breaks for made in broken.ALL.values() if made.breaks})
        for made in broken.ALL.values():
            self.assertIn(made.scenario, scenarios.ALL)
            self.assertTrue(set(made.caught) <= set(run.INVARIANTS))


class Options(unittest.TestCase):
    def test_what_is_asked_for_goes_before_a_size_and_that_before_the_defaults(self):
        self.assertEqual(options().cycles, run.DEFAULTS["cycles"])
        self.assertEqual(options(size="short").cycles, scenarios.Kill9.short["cycles"])
        self.assertEqual(options("--cycles", "3", size="long").cycles, 3)
        planned = lambda *words: run.plan(run.parser().parse_args(["sigterm", *words]), "sigterm")[0].cycles
        self.assertEqual((planned(), planned("--short")), (run.DEFAULTS["cycles"], scenarios.SigTerm.short["cycles"]))

    def test_a_long_run_has_parts_that_share_its_time(self):
        parse = lambda *words: run.plan(run.parser().parse_args(["long", *words]), "long")
        parts = parse("--seconds", "600")
        self.assertAlmostEqual(sum(part.seconds for part in parts), 600)
        kills = {part.spool: part.cycles for part in parts if part.name == "kill9" and not part.hold_writes and part.append == "written"}
        self.assertEqual(kills, {"stored": 300, "replicated": 300, "none": 100})
        self.assertTrue(all(part.out == run.RECORDS for part in parts))
        self.assertEqual({part.spool for part in parse("--spool", "replicated")}, {"replicated"})
        self.assertEqual({part.cycles for part in parse("--cycles", "2")}, {2})

    def test_a_scenario_may_have_defaults_of_its_own(self):
        self.assertEqual((options(name="subscribers").rate, options().rate), (200, 0))
        self.assertEqual(options("--rate", "7", name="subscribers").rate, 7)

    def test_without_a_spool_clients_insist(self):
        self.assertTrue(options().insist)
        self.assertFalse(options("--spool", "stored").insist)
        self.assertFalse(options("--no-insist").insist)

    def test_what_hurts_the_disk_needs_a_spool(self):
        for name in ("slow-disk", "sync-error"):
            with self.assertRaises(scenarios.Skipped):
                scenarios.ALL[name].made(options(name=name))

    def test_the_document_has_every_scenario(self):
        text = (broken.ROOT / "docs/internals/FAULTS.md").read_text()
        for name in [*scenarios.ALL, *broken.ALL]:
            self.assertIn(f"`{name}`", text)


class Events(unittest.TestCase):
    def test_what_the_generator_writes_is_read(self):
        data = struct.pack("<QQIBBH", 1_500_000_000, 258, 7, 3, 10, 0) + struct.pack("<QQIBBH", 1_600_000_000, 258, 7, 5, 0x97, 0)
        first, second = events.read(data + b"half")
        self.assertEqual(str(first), "    1.500000 client    7 PUBLISH  258 QoS 2 again")
        self.assertEqual(str(second), "    1.600000 client    7 PUBREC   258 0x97")


class Wire(unittest.IsolatedAsyncioTestCase):
    """Behind the proxy stands a server that answers each byte with its double."""

    async def asyncSetUp(self) -> None:
        self.asked = bytearray()

        async def serve(reader, writer):
            try:
                while data := await reader.read(1024):
                    self.asked += data
                    writer.write(data * 2)
                    await writer.drain()
            except OSError:
                pass
            writer.close()

        self.server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.wire = wire.Wire(*self.server.sockets[0].getsockname())
        self.proxy = await asyncio.start_server(self.wire.connected, "127.0.0.1", 0)
        self.port = self.proxy.sockets[0].getsockname()[1]

    async def asyncTearDown(self) -> None:
        self.wire.order("well cut")
        self.proxy.close()
        self.server.close()
        await asyncio.sleep(0.05)  # until those who carried have seen it

    async def connect(self):
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, link, data: bytes, expected: bytes) -> None:
        link[1].write(data)
        self.assertEqual(await asyncio.wait_for(link[0].readexactly(len(expected)), 10), expected)

    async def silent(self, link) -> None:
        with self.assertRaises(TimeoutError):
            await asyncio.wait_for(link[0].read(1), 0.2)

    async def ended(self, link) -> bytes:
        got = b""
        try:
            while data := await asyncio.wait_for(link[0].read(64), 10):
                got += data
        except ConnectionResetError:
            return got
        self.fail("no reset")

    async def test_when_all_is_well_bytes_go_through(self):
        await self.ask(await self.connect(), b"abc", b"abcabc")

    async def test_a_delay_is_there(self):
        link = await self.connect()
        await self.ask(link, b"a", b"aa")
        self.wire.order("delay 200")
        begin = asyncio.get_running_loop().time()
        await self.ask(link, b"b", b"bb")
        self.assertGreaterEqual(asyncio.get_running_loop().time() - begin, 0.2)

    async def test_a_cut_passes_so_many_bytes_and_resets(self):
        link = await self.connect()
        await self.ask(link, b"a", b"aa")
        self.wire.order("cut 5")
        link[1].write(b"xyz")  # 3 there, 2 of 6 back
        self.assertIn(await self.ended(link), (b"xy", b""))  # a reset may overtake what came before it
        self.assertEqual(self.asked, b"axyz")

    async def test_deaf_is_done_and_not_heard(self):
        link = await self.connect()
        self.wire.order("deaf")
        link[1].write(b"q")
        await self.silent(link)
        self.assertEqual(self.asked, b"q")
        self.wire.order("well")
        link[1].write(b"r")
        await self.silent(link)  # a stream with a hole is never taken up again
        self.wire.order("well cut")
        await self.ended(link)
        await self.ask(await self.connect(), b"s", b"ss")

    async def test_a_black_hole_takes_all_and_ends_nothing(self):
        link = await self.connect()
        self.wire.order("blackhole")
        link[1].write(b"q")
        await self.silent(link)
        self.assertEqual(self.asked, b"")

    async def test_refused_are_old_and_new(self):
        link = await self.connect()
        await self.ask(link, b"a", b"aa")
        self.wire.order("refuse")
        await self.ended(link)
        await self.ended(await self.connect())

    async def test_a_drip_is_read_byte_by_byte_in_both_directions(self):
        class Counting(asyncio.Protocol):
            def __init__(self):
                self.reads, self.all_there = [], asyncio.Event()

            def connection_made(self, transport):
                self.transport = transport

            def data_received(self, data):
                self.reads.append(data)
                if len(self.reads) == 100:
                    self.all_there.set()

        loop, there = asyncio.get_running_loop(), Counting()
        server = await loop.create_server(lambda: there, "127.0.0.1", 0)
        self.wire.host, self.wire.port = server.sockets[0].getsockname()
        self.wire.order("drip")
        here = (await loop.create_connection(Counting, "127.0.0.1", self.port))[1]
        for writer, reader in ((here, there), (there, here)):
            writer.transport.write(bytes(range(100)))
            await asyncio.wait_for(reader.all_there.wait(), 10)
            self.assertEqual(reader.reads, [bytes([n]) for n in range(100)])
        server.close()

    async def test_what_is_no_order_is_said(self):
        with self.assertRaises(ValueError):
            self.wire.order("wel")


if __name__ == "__main__":
    unittest.main()
