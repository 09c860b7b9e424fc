"""Tests of what the proofs of the spool judge by."""

import argparse
import unittest
from collections import Counter
from types import SimpleNamespace

import spooled

HELD = {"sink_records_out_delivered": 1_000, "sink_batches": 10, "sink_buffered_records": 5_000, "sink_spooled_records": 5_000}


class Sizes(unittest.TestCase):
    def test_sizes_are_read_as_the_service_reads_them(self):
        self.assertEqual([spooled.bytes_of(text) for text in ("10GiB", "512MiB", "64KiB", "7")], [10 << 30, 512 << 20, 64 << 10, 7])
        for wrong in ("", "GiB", "1GB", "-1MiB"):
            with self.assertRaises(argparse.ArgumentTypeError):
                spooled.bytes_of(wrong)


class Drains(unittest.TestCase):
    """A drain is from the last scrape before Kafka took something to the first that has no more than live traffic makes."""

    def setUp(self):
        self.scrapes = SimpleNamespace(count=0)
        self.recorder = SimpleNamespace(last=Counter(HELD), scrapes=self.scrapes)
        self.drain = spooled.Drain(SimpleNamespace(recorder=self.recorder), calm_rows=100)

    def scrape(self, at_s: float, **values: int) -> bool:
        self.scrapes.count += 1
        self.recorder.last.update({name: value - self.recorder.last[name] for name, value in values.items()})
        over = self.drain.over()
        # What the clock said is replaced: nothing here waits.
        self.drain.samples[-1] = (self.scrapes.count, at_s, *self.drain.samples[-1][2:])
        if self.drain.begin and self.drain.begin[0] == self.scrapes.count - 1:
            self.drain.begin = self.drain.samples[-2]
        if over:
            self.drain.end = self.drain.samples[-1]
        return over

    def test_it_is_timed_from_the_first_record_to_the_last_of_the_backlog(self):
        self.assertFalse(self.scrape(1))
        self.assertFalse(self.scrape(2), "nothing has come yet")
        self.assertFalse(self.scrape(4, sink_records_out_delivered=3_000, sink_batches=14, sink_buffered_records=4_000, sink_spooled_records=4_000))
        self.assertFalse(self.drain.over(), "the same scrape says nothing new")
        self.assertTrue(self.scrape(6, sink_records_out_delivered=9_000, sink_batches=20, sink_buffered_records=100, sink_spooled_records=100))
        self.assertEqual((self.drain.seconds, self.drain.rate(), self.drain.batch()), (4, 2_000, 800))
        self.assertEqual(self.drain.rows_over_time(2), [[1, 5_000], [4, 4_000], [6, 100]])

    def test_little_that_is_held_before_anything_came_is_no_end(self):
        self.assertFalse(self.scrape(1, sink_buffered_records=10))
        self.assertEqual((self.drain.seconds, self.drain.rate(), self.drain.batch()), (0, 0, 0), "what never ended has no rate")


class Memory(unittest.TestCase):
    def test_the_ceiling_grows_by_a_thousandth_of_what_is_spooled(self):
        options = argparse.Namespace(shards=2, clients=10, segment="8MiB")
        proof = SimpleNamespace(options=options, at_start={"process_resident_memory_bytes": 20 << 20, "kafka_buffer_bytes_max": 64 << 20})
        ceiling = lambda spooled_bytes: spooled.Spooled.ceiling(proof, spooled_bytes)
        self.assertEqual(ceiling(0), (84 << 20) + 2 * ((4 + 8 + 16 + 4) << 20) + 10 * (16 << 10))
        self.assertEqual(round(ceiling(10 << 30) - ceiling(0)), (10 << 30) // 1_000)


if __name__ == "__main__":
    unittest.main()
