"""The ledger of a run must be able to fail."""

import unittest
from collections import Counter

import watch

PAGE = """\
# TYPE forebay_publishes_qos1 counter
forebay_publishes_matched_total{shard="0"} 9
forebay_publishes_matched_total{shard="1"} 5
forebay_listener_publishes_received_total{shard="0",listener="127.0.0.1:1883"} 9
forebay_listener_publishes_received_total{shard="1",listener="127.0.0.1:1883"} 5
forebay_listener_publishes_matched_total{shard="0",listener="127.0.0.1:1883"} 9
forebay_listener_publishes_matched_total{shard="1",listener="127.0.0.1:1883"} 4
forebay_listener_publishes_refused_total{shard="1",listener="127.0.0.1:1883"} 1
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

    def test_every_shard_sink_and_listener_balances_by_itself(self):
        self.assertEqual(watch.imbalance(PAGE), [])
        for right, wrong, named in (
            ('sink_delivered_total{shard="0",sink="flow"} 14', 'sink_delivered_total{shard="0",sink="flow"} 13', "shard 0, sink flow"),
            ('publishes_refused_total{shard="1",listener', 'publishes_forgotten_total{shard="1",listener', "shard 1, listener 127.0.0.1:1883"),
            ('publishes_matched_total{shard="0"} 9', 'publishes_matched_total{shard="0"} 10', "shard 0, shard 0"),
        ):
            self.assertIn(right, PAGE)
            faults = watch.imbalance(PAGE.replace(right, wrong))
            self.assertEqual([named in fault for fault in faults], [True], faults)
        self.assertTrue(watch.imbalance("# EOF\n"), "an empty page is no proof")

    def test_what_one_shard_has_too_many_another_does_not_make_good(self):
        page = PAGE.replace('publishes_matched_total{shard="0"} 9', 'publishes_matched_total{shard="0"} 8')
        page = page.replace('publishes_matched_total{shard="1"} 5', 'publishes_matched_total{shard="1"} 6')
        self.assertEqual(len(watch.imbalance(page)), 2)

    def test_dead_letters_drops_and_what_was_recovered_are_in_the_ledger(self):
        more = 'forebay_sink_recovered_total{shard="0",sink="flow"} 5\n'
        self.assertEqual(len(watch.imbalance(more + PAGE)), 1)
        more += 'forebay_sink_dead_lettered_total{shard="0",sink="flow"} 3\nforebay_sink_dropped_late_total{shard="0",sink="flow"} 2\n'
        self.assertEqual(watch.imbalance(more + PAGE), [])

    def test_scrapes_are_counted(self):
        scrapes = watch.Scrapes()
        scrapes.add(PAGE)
        scrapes.add(PAGE.replace("qos2_total{shard=\"0\"} 2", "qos2_total{shard=\"0\"} 3"))
        self.assertEqual(str(scrapes), "2 scrapes, 1 out of balance")


if __name__ == "__main__":
    unittest.main()
