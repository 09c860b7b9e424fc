"""The ledger of a run must be able to fail."""

import unittest
from collections import Counter

import watch

PAGE = """\
# TYPE forebay_publishes_qos1 counter
forebay_publishes_qos1_total{shard="0"} 7
forebay_publishes_qos1_total{shard="1"} 5
forebay_publishes_qos2_total{shard="0"} 2
forebay_answers_total{shard="0"} 8
forebay_sink_matched_total{shard="0",sink="flow"} 14
forebay_sink_delivered_total{shard="0",sink="flow"} 14
forebay_sink_buffered_rows{shard="0",sink="flow"} 0
# EOF
"""


class Ledger(unittest.TestCase):
    def test_numbers_are_summed_over_their_labels(self):
        values = watch.read(PAGE)
        self.assertEqual((values["publishes_qos1"], values["sink_matched"]), (12, 14))
        self.assertEqual(watch.answers_owed(values), 6)

    def test_what_adds_up_passes_and_what_does_not_is_named(self):
        right = watch.read(PAGE)
        self.assertEqual(watch.ledger(right), [])
        for change in ({"publishes_qos0": 1}, {"sink_delivered": 13}, {"sink_buffered_rows": 1}, {"sink_refused": 1}):
            self.assertTrue(watch.ledger(Counter(right | change)), change)


if __name__ == "__main__":
    unittest.main()
