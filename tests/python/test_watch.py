"""The ledger of a run must be able to fail."""

import unittest
from collections import Counter

import watch

PAGE = """\
# TYPE forebay_publishes_received counter
forebay_publishes_routed_total{shard="0",result="matched"} 9
forebay_publishes_routed_total{shard="1",result="matched"} 4
forebay_publishes_routed_total{shard="1",result="refused"} 1
forebay_listener_publishes_received_total{shard="0",listener="127.0.0.1:1883"} 9
forebay_listener_publishes_received_total{shard="1",listener="127.0.0.1:1883"} 5
forebay_listener_publishes_routed_total{shard="0",listener="127.0.0.1:1883",result="matched"} 9
forebay_listener_publishes_routed_total{shard="1",listener="127.0.0.1:1883",result="matched"} 4
forebay_listener_publishes_routed_total{shard="1",listener="127.0.0.1:1883",result="refused"} 1
forebay_publishes_received_total{shard="0",qos="1"} 7
forebay_publishes_received_total{shard="1",qos="1"} 5
forebay_publishes_received_total{shard="0",qos="2"} 2
forebay_acknowledgements_sent_total{shard="0"} 8
forebay_sink_records_in_total{shard="0",sink="flow",source="publish"} 13
forebay_sink_records_out_total{shard="0",sink="flow",result="delivered"} 13
forebay_sink_buffered_records{shard="0",sink="flow"} 0
forebay_deliveries_begun_total{shard="0",source="routed"} 12
forebay_deliveries_begun_total{shard="0",source="recovery"} 2
forebay_deliveries_begun_total{shard="1",source="handed_over"} 1
forebay_deliveries_total{shard="0",result="sent"} 9
forebay_deliveries_total{shard="0",result="sent_qos_0"} 4
forebay_deliveries_total{shard="0",result="acknowledged"} 3
forebay_deliveries_total{shard="0",result="handed_over"} 1
forebay_deliveries_total{shard="0",result="refused_by_client"} 1
forebay_deliveries_queued{shard="0"} 3
forebay_deliveries_in_flight{shard="0"} 2
forebay_deliveries_unwritten{shard="0"} 5
forebay_deliveries_not_stored_total{shard="0"} 5
forebay_deliveries_queued{shard="1"} 1
forebay_spool_sync_seconds_bucket{le="0.0001"} 3
forebay_spool_sync_seconds_sum 0.25
process_open_fds 12
# EOF
"""


class Ledger(unittest.TestCase):
    def test_numbers_are_summed_over_their_labels(self):
        values = watch.read(PAGE)
        self.assertEqual((values["publishes_received_1"], values["sink_records_in_publish"]), (12, 13))
        self.assertEqual((values["spool_sync_seconds_sum"], values["process_open_fds"]), (0.25, 12))
        self.assertEqual(watch.answers_owed(values), 6)

    def test_what_adds_up_passes_and_what_does_not_is_named(self):
        right = watch.read(PAGE)
        self.assertEqual(watch.ledger(right), [])
        for change in ({"publishes_received_0": 1}, {"sink_records_out_delivered": 12}, {"sink_buffered_records": 1}, {"sink_records_out_refused": 1}):
            self.assertTrue(watch.ledger(Counter(right | change)), change)

    def test_every_shard_sink_and_listener_balances_by_itself(self):
        self.assertEqual(watch.imbalance(PAGE), [])
        for right, wrong, named in (
            ('result="delivered"} 13', 'result="delivered"} 12', "shard 0, sink flow"),
            ('listener="127.0.0.1:1883",result="refused"} 1', 'listener="127.0.0.1:1883",result="refused"} 0', "shard 1, listener 127.0.0.1:1883"),
            ('result="acknowledged"} 3', 'result="acknowledged"} 4', "shard 0, deliveries 0"),
            ('deliveries_in_flight{shard="0"} 2', 'deliveries_in_flight{shard="0"} 3', "shard 0, deliveries 0"),
            ('deliveries_queued{shard="1"} 1', 'deliveries_queued{shard="1"} 0', "shard 1, deliveries 1"),
            ('routed_total{shard="0",result="matched"} 9', 'routed_total{shard="0",result="matched"} 10', "shard 0, shard 0"),
        ):
            self.assertIn(right, PAGE)
            faults = watch.imbalance(PAGE.replace(right, wrong))
            self.assertEqual([named in fault for fault in faults], [True], faults)
        self.assertTrue(watch.imbalance("# EOF\n"), "an empty page is no proof")

    def test_what_one_shard_has_too_many_another_does_not_make_good(self):
        page = PAGE.replace('forebay_publishes_routed_total{shard="0",result="matched"} 9', 'forebay_publishes_routed_total{shard="0",result="matched"} 8')
        page = page.replace('forebay_publishes_routed_total{shard="1",result="matched"} 4', 'forebay_publishes_routed_total{shard="1",result="matched"} 5')
        self.assertEqual(len(watch.imbalance(page)), 2)

    def test_dead_letters_drops_and_what_was_recovered_are_in_the_ledger(self):
        more = 'forebay_sink_records_in_total{shard="0",sink="flow",source="recovery"} 5\n'
        self.assertEqual(len(watch.imbalance(more + PAGE)), 1)
        more += 'forebay_sink_records_out_total{shard="0",sink="flow",result="dead_lettered"} 3\nforebay_sink_records_out_total{shard="0",sink="flow",result="dropped_late"} 2\n'
        self.assertEqual(watch.imbalance(more + PAGE), [])

    def test_scrapes_are_counted(self):
        scrapes = watch.Scrapes()
        scrapes.add(PAGE)
        scrapes.add(PAGE.replace('qos="2"} 2', 'qos="2"} 3'))
        self.assertEqual(str(scrapes), "2 scrapes, 1 out of balance")


if __name__ == "__main__":
    unittest.main()
