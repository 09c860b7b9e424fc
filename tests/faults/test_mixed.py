"""The judge of `mixed` must be able to fail: one test for each kind of fault, and for what the documents allow."""

import unittest
from collections import Counter

import run
from copies import NEVER, Filter
from mixed_clients import Client, Plan, Sent, World
from mixed_judge import S, Copy, Heard, Judge, Message, Run, Will
from link import packet, publish


class Stage:
    """One publisher of ten messages on one topic, and a subscriber that got all, until a test breaks something. Message N is sent N s after the begin, and answered at once."""

    def __init__(self, qos: int = 2, kept: bool = True, origin: str = "client", share: str = ""):
        self.all = [Message(f"p/{number}", "p", number, "flow/p/0", qos, number * S, number * S + S // 10, origin=origin) for number in range(1, 11)]
        self.hurt: list[tuple[int, int]] = []
        self.deleted: list[tuple[int, int]] = []
        self.heard = Heard("one", kept, [Filter("flow/#", 2)], share=share, spans=[[S // 2, NEVER]], online=[[0, NEVER]])
        self.heard.copies = [Copy(message, 0, message.answered_ns, qos) for message in self.all]
        self.in_kafka = {message.key: Counter({"mqtt-messages": 1}) for message in self.all}
        self.wills: list[Will] = []

    def at(self, number: int) -> Message:
        return self.all[number - 1]

    def lose(self, number: int) -> None:
        self.heard.copies = [copy for copy in self.heard.copies if copy.message.number != number]

    def again(self, number: int, at: int = 99, connection: int = 1) -> None:
        self.heard.copies.append(Copy(self.at(number), connection, at * S, self.at(number).qos))

    def swap(self, one: int, other: int) -> None:
        copies = self.heard.copies
        copies[one - 1], copies[other - 1] = copies[other - 1], copies[one - 1]

    def judge(self) -> Judge:
        return Judge(Run({message.key: message for message in self.all}, self.hurt, self.deleted, self.in_kafka))

    def verdict(self):
        judge = self.judge()
        judge.kafka()
        judge.subscriber(self.heard)
        if self.heard.share:
            judge.share([self.heard])
        judge.wills(self.wills, self.heard)
        return judge.verdict


class Judged(unittest.TestCase):
    def finds(self, stage: Stage, *kinds: str) -> Counter:
        verdict = stage.verdict()
        self.assertEqual(sorted(verdict.faults), sorted(kinds), verdict.faults)
        return verdict.counts

    def test_where_all_is_right_nothing_is_found(self):
        for stage in (Stage(1), Stage(2), Stage(2, kept=False), Stage(1, share="s"), Stage(2, share="s"), Stage(2, origin="source"), Stage(1, origin="bridge")):
            counts = self.finds(stage)
            self.assertEqual((counts["published"], counts["answered"], counts["copies received"], counts["missing"]), (10, 10, 10, 0))
            self.assertGreaterEqual(counts["copies expected"], 8)

    def test_a_lost_copy(self):
        kinds = {"client": "M1: missing, QoS 2", "source": "M7: record of a source missing", "bridge": "M8: missing over the bridge"}
        for origin, kind in kinds.items():
            stage = Stage(2, origin=origin)
            stage.lose(4)
            self.assertEqual(self.finds(stage, kind)["missing"], 1)
        stage = Stage()
        stage.lose(4)
        stage.at(4).answered_ns = 0
        self.finds(stage)  # nobody was told that it is there
        stage.at(4).answered_ns, stage.heard.spans = 5 * S, [[S * 9 // 2, NEVER]]
        self.finds(stage)  # it was sent before SUBACK

    def test_a_lost_copy_is_allowed_only_where_its_session_went_with_its_topic(self):
        for deleted, kinds in (((5 * S, 30 * S), ()), ((200 * S, 230 * S), ("M1: missing, QoS 2",))):
            stage = Stage()
            stage.lose(4)
            stage.deleted, stage.hurt = [deleted], [deleted]
            self.finds(stage, *kinds)

    def test_what_waited_for_a_client_that_was_away_goes_with_its_session(self):
        stage = Stage()
        stage.lose(4)
        stage.hurt = stage.deleted = [(60 * S, 90 * S)]
        stage.heard.online = [[0, 3 * S], [62 * S, NEVER]]
        self.finds(stage)
        stage.heard.online = [[0, 30 * S], [62 * S, NEVER]]
        self.finds(stage, "M1: missing, QoS 2")

    def test_what_was_answered_and_is_not_in_kafka_or_twice(self):
        stage = Stage()
        del stage.in_kafka["p/3"]
        stage.in_kafka["p/5"]["mqtt-mixed"] = 1
        counts = self.finds(stage, "M1: answered and not in Kafka", "M2: QoS 2 twice in Kafka")
        self.assertEqual(counts["doubled at QoS 2"], 1)
        stage = Stage(1)
        stage.in_kafka["p/5"]["mqtt-messages"] = 2
        self.finds(stage)

    def test_a_doubled_copy(self):
        stage = Stage()
        stage.again(4)
        self.assertEqual(self.finds(stage, "M2: doubled at QoS 2")["doubled at QoS 2"], 1)
        stage = Stage(1)
        stage.again(4)
        self.finds(stage)
        stage.again(4)
        self.finds(stage, "M2: again on its connection")
        stage.at(4).sends = 2
        self.finds(stage)

    def test_a_record_of_a_source_comes_again_in_a_fault_alone(self):
        stage = Stage(2, origin="source")
        stage.again(4)
        self.finds(stage, "M2: doubled at QoS 2")
        stage.hurt = [(90 * S, 110 * S)]
        self.assertEqual(self.finds(stage)["allowed: record of a source again, in a fault"], 1)
        stage.hurt, stage.in_kafka["p/4"]["records"] = [], 2
        self.assertEqual(self.finds(stage)["allowed: record that its producer wrote twice"], 1)

    def test_an_order(self):
        for kept in (True, False):
            stage = Stage(1, kept)
            stage.swap(4, 5)
            self.assertEqual(self.finds(stage, "M3: order")["out of order"], 1)
            stage.at(4).answered_ns = 0
            self.finds(stage)  # a batch that was on its way when its connection ended
        stage = Stage(1)
        stage.swap(4, 5)
        stage.in_kafka["p/5"] = Counter({"mqtt-mixed": 1})
        self.assertEqual(self.finds(stage)["allowed: late over a change of routes"], 1)

    def test_who_has_subscribed_between_two_sendings_gets_the_later_one_late(self):
        for kept, since, kinds in ((False, S // 2, ()), (True, 4 * S + S // 2, ()), (True, S // 2, ("M3: order",))):
            stage = Stage(1, kept)
            stage.swap(4, 5)
            stage.at(4).sends, stage.heard.spans = 2, [[since, NEVER]]
            self.finds(stage, *kinds)

    def test_a_gap_on_a_connection_of_a_session_that_is_not_kept(self):
        stage = Stage(1, kept=False)
        stage.lose(1)
        stage.lose(10)
        self.finds(stage)  # it came later, and went before
        stage.lose(4)
        self.finds(stage, "M1: gap on a connection")
        stage.heard.copies = [copy._replace(connection=(copy.message.number + 2) // 5) for copy in stage.heard.copies]
        self.finds(stage, "M1: gap on a connection")
        stage.heard.copies = [copy._replace(connection=copy.message.number // 5) for copy in stage.heard.copies]
        self.finds(stage)  # between two connections

    def test_a_share(self):
        stage = Stage(2, share="s")
        stage.lose(4)
        self.finds(stage, "M4: missing at a share")
        stage = Stage(2, share="s")
        stage.again(4)
        self.finds(stage, "M4: QoS 2 again at a share")
        stage.hurt = [(98 * S, 100 * S)]
        self.finds(stage)
        stage = Stage(1, share="s")
        stage.again(4)
        self.finds(stage)

    def test_a_member_whose_session_ends_takes_a_message_of_qos_2_along(self):
        for qos, kept, end, kinds in ((2, False, 5, ()), (1, False, 5, ("M4: missing at a share",)), (2, True, 5, ("M4: missing at a share",)), (2, False, 60, ("M4: missing at a share",))):
            stage = Stage(qos, kept, share="s")
            stage.lose(4)
            stage.heard.online = [[0, end * S], [end * S + 1, NEVER]]
            self.finds(stage, *kinds)

    def test_what_a_share_gets_is_added_up_over_its_members(self):
        stage = Stage(2, share="s")
        other = Heard("two", True, stage.heard.filters, share="s", copies=[copy for copy in stage.heard.copies if copy.message.number > 5], spans=[[S // 2, NEVER]])
        stage.heard.copies = stage.heard.copies[:5]
        judge = stage.judge()
        judge.share([stage.heard, other])
        self.assertEqual(judge.verdict.faults, {})
        other.copies.append(stage.heard.copies[0])
        judge = stage.judge()
        judge.share([stage.heard, other])
        self.assertEqual(list(judge.verdict.faults), ["M4: QoS 2 again at a share"])

    def test_a_wrong_retained_message(self):
        for got, kinds in ((10, []), (9, ["M5: retained is not the newest"]), (None, ["M5: retained is not the newest"])):
            stage = Stage(1)
            judge = stage.judge()
            judge.retained("flow/p/0", stage.at(got) if got else None, "a")
            self.assertEqual(list(judge.verdict.faults), kinds)
        stage.at(10).answered_ns = 0
        judge = stage.judge()
        judge.retained("flow/p/0", stage.at(9), "a")
        judge.retained("flow/p/0", stage.at(5), "earlier", 6 * S)
        self.assertEqual(judge.verdict.faults, {})

    def will(self, **more) -> tuple[Stage, Message]:
        stage = Stage()
        message = Message("w!1", "w", 1, "flow/w", 2, 3 * S, origin="will")
        stage.all.append(message)
        stage.wills = [Will(message, "w", **({"kept": True, "granted_ns": 3 * S, "ended_ns": 8 * S} | more))]
        return stage, message

    def test_a_will(self):
        stage, message = self.will()
        self.finds(stage, "M6: will missing")
        stage.heard.copies.append(Copy(message, 0, 9 * S, 2))
        self.finds(stage)
        stage.heard.copies.append(Copy(message, 0, 10 * S, 2))
        self.finds(stage, "M6: will twice")
        stage.hurt = [(9 * S, 20 * S)]
        self.finds(stage)
        stage, message = self.will(left=True)
        self.finds(stage)
        stage.heard.copies.append(Copy(message, 0, 9 * S, 1))
        self.finds(stage, "M6: will of a client that has left")
        self.finds(self.will(kept=False, ended_ns=3 * S + S // 2)[0])  # its instance may have died before it was in the log
        self.finds(self.will(kept=False)[0], "M6: will missing")
        stage = self.will(kept=False, granted_ns=6 * S, ended_ns=8 * S)[0]
        self.finds(stage, "M6: will missing")
        stage.at(6).answered_ns = 8 * S
        self.finds(stage)  # Kafka was that slow
        self.finds(self.will(ended_ns=NEVER)[0])

    def test_what_was_not_asked_for(self):
        stage = Stage()
        stage.heard.filters = [Filter("other/#", 2)]
        self.assertIn("M10: not asked for", stage.verdict().faults)


class Moves(unittest.TestCase):
    def test_an_instance_that_was_held_up_says_when(self):
        made = run.mixed.Mixed.__new__(run.mixed.Mixed)
        made.log = lambda: '2026-11-30T21:43:40.965177Z  WARN nothing was heard event="instance_silent" group="g"\n2026-11-30T21:43:42.000000Z  INFO event="slot_taken" partition=1\n'
        ((begin, end),) = made.moves_ns()
        self.assertAlmostEqual((end - begin) / S, 35, places=3)


class Wired:
    """Takes what a client writes."""

    def __init__(self):
        self.data = bytearray()

    def write(self, data: bytes) -> None:
        self.data += data


class Clients(unittest.TestCase):
    """A client by its packets, without a connection."""

    def setUp(self) -> None:
        self.world = World(1)
        self.addCleanup(self.world.loop.close)
        self.client = Client(self.world, "c", filters=[("flow/#", 2)], plan=Plan([("flow/c/0", 2, False)], 1))
        self.welcome(present=False)
        self.message = self.world.messages["p/1"] = Message("p/1", "p", 1, "flow/p/0", 2, 1)

    def welcome(self, present: bool) -> None:
        self.client.writer, self.client.out = Wired(), bytearray()
        self.client.welcome(present, 5)

    def hear(self, data: bytes) -> bytes:
        self.client.out = bytearray()
        self.client.take(data[0], data[2:])
        return bytes(self.client.out)

    def copy(self, qos: int = 2, dup: bool = False, topic: str = "flow/p/0", packet_id: int = 7) -> bytes:
        return self.hear(publish(topic, b"p/1 ...", qos=qos, packet_id=packet_id, dup=dup))

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.world.faults]

    def test_a_message_of_qos_2_is_handed_on_once_until_it_is_released(self):
        self.assertEqual(self.copy(), b"\x50\x02\x00\x07")
        self.assertEqual(self.copy(dup=True), b"\x50\x02\x00\x07")
        self.assertEqual(len(self.client.heard.copies), 1)
        self.assertEqual(self.hear(b"\x62\x02\x00\x07"), b"\x70\x02\x00\x07")
        self.copy()
        self.assertEqual(len(self.client.heard.copies), 2)
        self.assertEqual(self.kinds(), [])

    def test_what_was_never_sent_or_comes_at_another_qos_is_a_fault(self):
        self.copy(topic="flow/other")
        self.copy(qos=1)
        self.assertEqual(self.kinds(), ["M10: never sent", "M10: another QoS"])

    def test_a_session_may_be_gone_after_its_topic_alone(self):
        self.welcome(present=True)
        self.assertEqual(self.kinds(), [])
        self.world.deleted_ns.append(4)
        self.welcome(present=False)
        self.assertEqual(self.kinds(), [])
        self.world.deleted_ns.clear()
        self.welcome(present=False)
        self.assertEqual(self.kinds(), ["M10: session lost"])

    def test_what_was_not_answered_is_sent_again_in_the_session_alone(self):
        sent = self.client.state.out[3] = Sent(self.message, False)
        self.client.is_subscribed = True
        self.welcome(present=True)
        self.assertEqual(bytes(self.client.writer.data), Client.packet(3, sent, dup=True))
        self.assertEqual(self.hear(packet(0x50, b"\x00\x03")), b"\x62\x02\x00\x03")
        self.assertGreater(self.message.answered_ns, 0)
        self.welcome(present=True)
        self.assertEqual(bytes(self.client.writer.data), b"\x62\x02\x00\x03")
        self.hear(packet(0x70, b"\x00\x03"))
        self.assertEqual(self.client.state.out, {})


if __name__ == "__main__":
    unittest.main()
