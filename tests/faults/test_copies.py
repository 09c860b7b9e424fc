"""The judge of kept subscribers must be able to fail: one test for each kind of fault. And the subscribers of our own, as the standard wants them."""

import json
import struct
import unittest
from collections import Counter

import crowd
import events
import messages
import receiver
from copies import ACKNOWLEDGED_MS, NEVER, Copy, Filter, Heard, Judge, Round, Verdict
from link import packet, text
from messages import Key, Payloads, Published, Run, Sending, Wrong

S = 1_000_000_000


class World:
    """One publisher with one topic, and one subscriber that got all, until a test breaks something."""

    def __init__(self, qos: int = 2, asked: int = 2, count: int = 6):
        self.messages = {Key(0, number): Published(qos, number * S, 0, answered=True) for number in range(count)}
        self.qos = min(qos, asked)
        self.heard = Heard("one", [Filter("flow/r1/0/+", asked)])
        self.b8, self.rereads, self.dropped, self.hurt, self.answered_ms = True, False, False, None, 0
        for key in self.messages:
            self.get(key.number)

    def publish(self, *numbers: int, ns: int = 0) -> None:
        """Its publisher has sent these, in this order, after all others."""
        for number in numbers:
            message = self.messages[Key(0, number)]
            place = 1 + max((sending.place for each in self.messages.values() for sending in each.sendings), default=-1)
            message.sends += bool(message.sendings)
            message.sendings.append(Sending(place, ns))

    def get(self, number: int, connection: int = 0, **more) -> None:
        handed_on = more.pop("handed_on", True)
        key = Key(0, number)
        self.heard.copies.append(Copy(connection, key, "flow/r1/0/0", self.qos)._replace(**more))
        self.heard.handed_on[key] += handed_on and self.qos == 2

    def lose(self, number: int) -> None:
        self.heard.copies = [copy for copy in self.heard.copies if copy.key.number != number]
        del self.heard.handed_on[Key(0, number)]

    def verdict(self) -> Verdict:
        run = Run(self.messages, [0, 3 * S])
        judge = Judge(Round(run, "r1", 1, 1, [100, 200], self.b8, rereads=self.rereads, dropped=self.dropped, hurt=self.hurt, answered_ms=self.answered_ms), Verdict())
        judge.subscriber(self.heard)
        return judge.verdict


class Judged(unittest.TestCase):
    def finds(self, world: World, *kinds: str) -> Counter:
        verdict = world.verdict()
        self.assertEqual(sorted(verdict.faults), sorted(kinds), verdict.faults)
        return verdict.counts

    def test_where_all_is_right_nothing_is_found(self):
        for qos, asked in ((1, 1), (1, 2), (2, 1), (2, 2)):
            counts = self.finds(World(qos, asked))
            self.assertEqual((counts["copies expected"], counts["copies received"], counts["messages answered"]), (6, 6, 6))

    def test_what_was_answered_is_missing(self):
        for qos in (1, 2):
            world = World(qos)
            world.lose(3)
            counts = self.finds(world, f"J1: missing, published at QoS {qos}")
            self.assertEqual(counts["copies missing"], 1)
            world.messages[Key(0, 3)].answered = world.messages[Key(0, 4)].answered = False
            self.assertEqual(self.finds(world)["copies of unanswered messages"], 1)

    def test_what_came_at_qos_2_and_was_not_handed_on_is_missing(self):
        world = World()
        world.heard.handed_on[Key(0, 3)] = 0
        del world.heard.handed_on[Key(0, 3)]
        self.finds(world, "J1: missing, published at QoS 2")

    def test_a_subscription_counts_from_its_suback_on(self):
        for since_ns, missing in ((0, 6), (100, 6), (101, 3), (200, 3), (201, 0), (NEVER, 0)):
            world = World()
            world.heard = Heard("one", [Filter("flow/#", 2, since_ns=since_ns)])
            self.assertEqual(world.verdict().counts["copies missing"], missing, since_ns)

    def test_qos_0_is_never_owed(self):
        world = World(0)
        world.lose(2)
        self.finds(world)

    def test_qos_2_handed_on_twice(self):
        world = World()
        world.heard.handed_on[Key(0, 5)] += 1
        self.assertEqual(self.finds(world, "J2: doubled at QoS 2")["copies doubled at QoS 2"], 1)

    def test_a_publisher_that_sends_qos_2_again_across_a_kill_is_rule_b8(self):
        world = World()
        world.heard.handed_on[Key(0, 5)] += 1
        world.messages[Key(0, 5)].sends = 2
        world.b8 = False
        self.finds(world, "J2: doubled at QoS 2")  # to the same start of the service
        world.messages[Key(0, 5)].crossed = 1
        self.assertEqual(self.finds(world)["QoS 2 published again across a kill (B8)"], 1)
        world.b8 = True
        self.finds(world, "J2: doubled at QoS 2")
        world.b8 = False
        world.heard.handed_on[Key(0, 5)] += 1
        self.finds(world, "J2: doubled at QoS 2")

    def test_first_copies_out_of_order(self):
        world = World(1)
        world.heard.copies[2], world.heard.copies[3] = world.heard.copies[3], world.heard.copies[2]
        self.finds(world, "J3: order", "J3: order on a connection")

    def test_what_is_from_before_suback_may_come_late_where_kafka_is_read_again(self):
        for rereads, late, kinds in ((False, 1, ("J3: order",)), (True, 1, ()), (True, 4, ("J3: order",))):
            world = World(1, 1)
            world.rereads, world.heard.filters = rereads, [Filter("flow/r1/0/+", 1, since_ns=150)]
            world.lose(late)
            world.get(late, connection=1)
            self.finds(world, *kinds)

    def again(self, hurt: list, qos: int = 1, **more) -> World:
        """With several instances: message 3 comes once more, on connection 1 at 50, if a test says nothing else."""
        world = World(qos)
        world.hurt = hurt
        world.get(3, **({"connection": 1, "came_ns": 50} | more))
        return world

    def test_with_several_instances_qos_1_comes_again_after_a_fault_or_with_dup(self):
        touched = [(10, 40), (45, 60)]
        for hurt, dup, kinds in ((touched, False, ()), (touched, True, ()), ([(10, 40)], True, ()), ([(10, 40)], False, ("J4: sent again without DUP",))):
            self.finds(self.again(hurt, dup=dup), *kinds)

    def test_with_several_instances_nothing_comes_again_on_its_connection(self):
        world = self.again([(10, 60)], connection=0, dup=True)
        self.finds(world, "J3: order on a connection", "J8: again on its connection")
        world.messages[Key(0, 3)].sends = 2
        self.finds(world)

    def test_with_several_instances_qos_2_comes_once_whatever_happens(self):
        self.finds(self.again([(10, 60)], qos=2), "J2: doubled at QoS 2")

    def test_with_several_instances_what_is_missing_or_out_of_order_is_found_in_a_fault_too(self):
        for qos in (1, 2):
            world = World(qos)
            world.hurt = [(0, NEVER)]
            world.lose(3)
            self.finds(world, f"J1: missing, published at QoS {qos}")
            world.get(3)
            self.finds(world, "J3: order", "J3: order on a connection")

    def test_what_was_acknowledged_long_before_comes_again_in_a_fault_only(self):
        for hurt, ms, kinds in (([(10, 60)], 2_600, ()), ([(60, 70)], 2_600, (1,)), ([(60, 70)], 2_400, ()), ([(10, 60)], 20_001, (1,))):
            world = self.again(hurt, dup=True, acknowledged_ms=ms)
            self.finds(world, *("J4: sent again long after it was acknowledged" for _ in kinds))

    def test_where_kafka_is_slow_an_acknowledgement_may_be_lost_for_as_long(self):
        for answered_ms, kinds in ((100, ()), (99, (1,))):
            world = self.again([(60, 70)], dup=True, acknowledged_ms=2_600)
            world.answered_ms = answered_ms
            self.finds(world, *("J4: sent again long after it was acknowledged" for _ in kinds))

    def test_where_kafka_is_slow_a_fault_lasts_longer(self):
        for answered_ms, kinds in ((1, ()), (0, ("J4: sent again without DUP",))):
            world = self.again([(10, 40)])
            world.answered_ms = answered_ms
            self.finds(world, *kinds)

    def test_with_several_instances_what_is_from_before_suback_may_come_late(self):
        for late, kinds in ((1, ()), (4, ("J3: order",))):
            world = World(1, 1)
            world.hurt, world.heard.filters = [], [Filter("flow/r1/0/+", 1, since_ns=150)]
            world.lose(late)
            world.get(late, connection=1)
            self.finds(world, *kinds)

    def late(self, *order: int, ns: int = 0) -> World:
        """All were sent, and then 2 to 5 once more; copies came in this order."""
        world = World(1)
        world.publish(*range(6))
        world.publish(2, 3, 4, 5, ns=ns)
        world.heard.copies.clear()
        for number in order:
            world.get(number)
        return world

    def test_a_first_copy_may_be_of_a_later_sending_where_the_service_had_no_room(self):
        world = self.late(0, 1, 4, 2, 3, 5, 4)
        self.finds(world, "J3: order")
        world.dropped = True
        self.assertEqual(self.finds(world)["copies late, of a later sending"], 2)

    def test_a_later_sending_has_its_place_too(self):
        for order in ((0, 1, 4, 3, 2, 5), (0, 4, 1, 2, 3, 5), (2, 0, 1, 3, 4, 5)):
            world = self.late(*order)
            world.dropped = True
            self.finds(world, "J3: order")

    def test_a_copy_that_came_before_a_later_sending_is_not_of_that(self):
        world = self.late(0, 1, 4, 2, 3, 5, ns=5 * S)
        world.dropped = True
        self.finds(world)
        world.heard.copies = [copy._replace(came_ns=4 * S) for copy in world.heard.copies]
        self.finds(world, "J3: order")

    def test_another_publisher_topic_or_qos_has_an_order_of_its_own(self):
        world = World(1)
        world.messages[Key(0, 3)].qos = 2
        world.heard.copies[2], world.heard.copies[3] = world.heard.copies[3], world.heard.copies[2]
        world.heard.filters[0] = Filter("flow/#", 1)
        self.finds(world)

    def test_a_repeat_on_a_later_connection_has_dup(self):
        world = World(1)
        world.get(5, connection=1, dup=True)
        self.assertEqual(self.finds(world)["copies again, with DUP"], 1)
        world.get(5, connection=2)
        self.finds(world, "J4: sent again without DUP")

    def test_repeats_that_are_not_in_order_and_twice_on_a_connection(self):
        world = World(1)
        world.get(5, connection=1, dup=True)
        world.get(4, connection=1, dup=True)
        self.finds(world, "J3: order on a connection")
        world = World(1)
        world.get(5, dup=True)
        self.finds(world, "J3: order on a connection")
        world.get(5)
        self.finds(world, "J3: order on a connection", "J4: sent again without DUP")

    def test_what_its_publisher_sent_twice_may_come_twice(self):
        world = World(1)
        world.messages[Key(0, 4)].sends = 2
        world.get(4)
        self.assertEqual(self.finds(world)["copies again, without DUP"], 1)

    def test_what_was_acknowledged_long_ago_does_not_come_again(self):
        world = World(1)
        world.get(5, connection=1, dup=True, acknowledged_ms=ACKNOWLEDGED_MS)
        self.finds(world)
        world.get(5, connection=2, dup=True, acknowledged_ms=ACKNOWLEDGED_MS + 1)
        self.finds(world, "J4: sent again long after it was acknowledged")

    def test_what_was_not_sent_or_not_asked_for(self):
        world = World(1)
        world.get(99)
        self.finds(world, "J5: never sent")
        world = World(1)
        world.heard.copies[2] = world.heard.copies[2]._replace(topic="flow/r1/0/1")
        self.finds(world, "J5: never sent")
        world = World(1)
        world.heard.filters = [Filter("flow/r1/1/0", 1)]
        self.assertEqual(world.verdict().faults["J5: not asked for"]["count"], 6)

    def test_another_qos(self):
        world = World(2, 2)
        world.heard.filters = [Filter("flow/r1/0/0", 1), Filter("#", 2)]
        self.finds(world)  # the highest of those that match
        world.heard.filters = [Filter("flow/r1/0/0", 1)]
        self.assertEqual(world.verdict().faults["J7: another QoS"]["count"], 6)

    def test_what_a_client_found_itself(self):
        world = World(1)
        world.heard.faults.append(("S: session lost", "no session"))
        self.finds(world, "S: session lost")

    def test_what_real_clients_do_on_their_connections_is_not_known(self):
        world = World(1)
        world.heard.copies = [copy._replace(connection=-1) for copy in world.heard.copies]
        world.get(2, connection=-1)
        self.finds(world)


class Filters(unittest.TestCase):
    def test_filters_match_as_the_standard_says(self):
        topic = "flow/r1/3/0"
        for filter in (topic, "flow/r1/3/+", "flow/r1/3/0/#", "flow/#", "#", "+/r1/+/0", "flow/r1/3/#"):
            self.assertTrue(Filter(filter, 1).matches(topic), filter)
        for filter in ("flow/r1/3", "flow/r1/3/1", "flow/r1/+", "flow/r2/#", "flow/r1/3/0/+", "+/r1/0"):
            self.assertFalse(Filter(filter, 1).matches(topic), filter)


class Messages(unittest.TestCase):
    """Bytes and numbers of the generator itself."""

    def test_payloads_and_topics_are_the_generators(self):
        value = messages.payload(9, Key(3, 77), 2, 123_456, 45)
        self.assertEqual(value.hex(), "464c4f570900000003000000020000004d0000000000000040e2010000000000edef7a82936c0584ef83bf83de")
        self.assertEqual([messages.topic_number(7, 3, Key(4, number)) for number in range(8)], [1, 0, 1, 1, 0, 1, 1, 0])

    def test_altered_and_foreign_payloads_are_seen(self):
        right = messages.payload(9, Key(3, 77), 2, 5, 60)
        self.assertEqual(Payloads(9).read(right), (Key(3, 77), 2))
        for payloads in (Payloads(9), self.who_knows(right)):
            for at in (0, 5, 30, 39, 40, 59):
                with self.assertRaises(Wrong):
                    payloads.read(right[:at] + bytes([right[at] ^ 1]) + right[at + 1 :])
            with self.assertRaises(Wrong):
                payloads.read(right[:-1])

    @staticmethod
    def who_knows(value: bytes) -> Payloads:
        payloads = Payloads(9)
        payloads.read(value)
        return payloads

    def test_what_the_events_say(self):
        def event(ns: int, number: int, kind: int, detail: int = 0) -> bytes:
            return struct.pack("<QQIBBH", ns, number, 3, kind, detail, 0)

        data = event(1, 0, events.CONNACK) + event(2, 0, events.MARK) + event(3, 7, events.PUBLISH, 2) + event(3, 8, events.PUBLISH, 2)
        data += event(3, 9, events.PUBLISH, 1) + event(4, 8, events.PUBREC, 0x10) + event(4, 9, events.PUBACK, 0x97)
        again = event(5, 0, events.CONNACK) + event(6, 7, events.PUBLISH, 10)
        later = event(7, 1, events.CONNACK) + event(8, 7, events.PUBLISH, 10) + event(8, 8, events.PUBLISH, 10)
        run = messages.read_events(events.read(data + again + later))
        self.assertEqual(run.marks_ns, [2])
        self.assertEqual(run.messages[Key(3, 7)], Published(2, 3, 1, sends=3, crossed=1, sendings=[Sending(1, 3), Sending(4, 6), Sending(5, 8)]))
        self.assertEqual(run.messages[Key(3, 8)], Published(2, 3, 1, sends=2, crossed=0, answered=True, sendings=[Sending(2, 3), Sending(6, 8)]))
        self.assertEqual(run.messages[Key(3, 9)], Published(1, 3, 0, sendings=[Sending(3, 3)]))


RUN = 9
TOPIC = "flow/r1/0/0"


def publish(number: int, packet_id: int, *, qos: int = 1, dup: bool = False, properties: bytes | None = None, topic: str = TOPIC) -> bytes:
    body = text(topic) + packet_id.to_bytes(2, "big")
    body += b"" if properties is None else bytes([len(properties)]) + properties
    return packet(0x30 | 8 * dup | qos << 1, body + messages.payload(RUN, Key(0, number), qos, number, 64))


PUBREL = b"\x62\x02\x00"


class Receives(unittest.TestCase):
    def make(self, **manner) -> receiver.Receiver:
        made = receiver.Receiver(receiver.Manner(**{"name": "one", "v5": False, "filters": [Filter("flow/#", 2)]} | manner), Payloads(RUN))
        self.come(made, present=False)
        return made

    @staticmethod
    def come(client: receiver.Receiver, present: bool = True) -> None:
        if client.greeted:
            client.down(0)
        client.greet()
        client.hear(b"\x20\x03" + bytes([present, 0, 0]) if client.manner.v5 else b"\x20\x02" + bytes([present, 0]), 0)
        client.out.clear()

    def kinds(self, client: receiver.Receiver) -> list[str]:
        return [kind for kind, _ in client.heard.faults]

    def answers(self, client: receiver.Receiver) -> bytes:
        client.answer(0)
        out = bytes(client.out)
        client.out.clear()
        return out

    def handed_on(self, client: receiver.Receiver) -> dict[int, int]:
        return {key.number: count for key, count in client.heard.handed_on.items()}

    def test_packets_come_in_any_pieces_and_are_answered(self):
        client = self.make()
        for byte in publish(1, 7) + publish(2, 8, qos=2):
            client.hear(bytes([byte]), 0)
        self.assertEqual([copy.key.number for copy in client.heard.copies], [1, 2])
        self.assertEqual(self.answers(client), b"\x40\x02\x00\x07\x50\x02\x00\x08")
        client.hear(PUBREL + b"\x08", 0)
        self.assertEqual(self.answers(client), b"\x70\x02\x00\x08")
        self.assertEqual((self.kinds(client), client.open), ([], {}))

    def test_qos_2_is_handed_on_once_over_connections(self):
        for at_release in (False, True):
            client = self.make(at_release=at_release)
            client.hear(publish(1, 7, qos=2), 0)
            self.assertEqual(self.handed_on(client), {} if at_release else {1: 1})
            self.come(client)
            client.hear(publish(1, 7, qos=2, dup=True), 0)
            client.hear(PUBREL + b"\x07", 0)
            self.come(client)
            client.hear(PUBREL + b"\x07", 0)
            self.assertEqual((self.handed_on(client), self.kinds(client)), ({1: 1}, []))
            client.hear(publish(2, 7, qos=2), 0)
            client.hear(PUBREL + b"\x07", 0)
            self.assertEqual(self.handed_on(client), {1: 1, 2: 1})

    def test_an_identifier_that_is_not_released_is_of_one_message(self):
        client = self.make()
        client.hear(publish(1, 7, qos=2), 0)
        self.come(client)
        client.hear(publish(2, 7, qos=2), 0)
        self.assertEqual((self.kinds(client), self.handed_on(client)), (["J4: a packet identifier in use"], {1: 1}))

    def test_an_identifier_that_is_open_is_not_used_again(self):
        client = self.make()
        client.hear(publish(1, 7) + publish(2, 7), 0)
        self.assertEqual(self.kinds(client), ["J4: a packet identifier in use"])

    def test_a_repeat_of_qos_2_without_dup(self):
        client = self.make()
        client.hear(publish(1, 7, qos=2), 0)
        self.come(client)
        client.hear(publish(1, 7, qos=2), 0)
        self.assertEqual(self.kinds(client), ["J4: sent again without DUP"])

    def test_more_than_receive_maximum(self):
        client = self.make(v5=True, receive_maximum=2)
        client.hear(publish(1, 7, properties=b"") + publish(2, 8, properties=b""), 0)
        self.answers(client)
        client.hear(publish(3, 9, properties=b"") + publish(4, 10, qos=2, properties=b""), 0)
        client.answer(0, 1)
        client.hear(publish(5, 11, properties=b""), 0)
        self.assertEqual(self.kinds(client), [])
        client.hear(publish(6, 12, properties=b""), 0)
        self.assertEqual(self.kinds(client), ["J4: more than Receive Maximum"])

    def test_how_long_ago_it_was_acknowledged(self):
        client = self.make()
        client.hear(publish(1, 7), 0)
        client.answer(1_000)
        client.down(7_500)
        self.come(client)
        client.hear(publish(1, 7, dup=True), 0)
        self.assertEqual([copy.acknowledged_ms for copy in client.heard.copies], [-1, 6_500])

    def test_an_altered_value(self):
        client = self.make()
        client.hear(publish(1, 7)[:-1] + b"x", 0)
        self.assertEqual((self.kinds(client), client.heard.copies), (["I4: foreign or altered"], []))

    def test_a_kept_session_is_asked_for(self):
        for v5, flags in ((False, (0, 0)), (True, (2, 0))):
            client = receiver.Receiver(receiver.Manner("one", v5, []), Payloads(RUN))
            client.greet()
            first = client.out[9]
            client.hear(b"\x20\x03\x00\x00\x00" if v5 else b"\x20\x02\x00\x00", 0)
            client.down(0)
            client.greet()
            self.assertEqual((first, client.out[9]), flags)

    def test_a_session_that_is_lost(self):
        client = self.make()
        self.come(client, present=False)
        self.assertEqual(self.kinds(client), ["S: session lost"])

    def test_subscriptions_count_from_their_suback_on(self):
        client = self.make(v5=True, filters=[Filter("flow/#", 2, 5), Filter("a", 1, 6)])
        client.subscribe()
        first = packet(0x82, b"\x00\x01\x02\x0b\x05" + text("flow/#") + b"\x02")
        self.assertTrue(bytes(client.out).startswith(first), client.out)
        client.hear(b"\x90\x04\x00\x01\x00\x02", 77)
        self.assertEqual([filter.since_ns for filter in client.heard.filters], [77, NEVER])
        client.down(0)
        self.come(client)
        client.subscribe()
        client.hear(b"\x90\x04\x00\x01\x00\x01", 99)
        self.assertEqual(([filter.since_ns for filter in client.heard.filters], client.wanted), ([77, 99], []))

    def test_identifiers_and_aliases(self):
        client = self.make(v5=True, filters=[Filter("flow/#", 2, 5), Filter("+/r1/#", 1, 6)], aliases=8)
        client.hear(publish(1, 7, properties=b"\x0b\x06\x0b\x05\x23\x00\x03"), 0)
        client.hear(publish(2, 8, properties=b"\x23\x00\x03\x0b\x05\x0b\x06", topic=""), 0)
        self.assertEqual(([copy.topic for copy in client.heard.copies], self.kinds(client)), ([TOPIC, TOPIC], []))
        client.hear(publish(3, 9, properties=b"\x0b\x05"), 0)
        self.assertEqual(self.kinds(client), ["J7: identifiers"])

    def test_what_no_server_says(self):
        for wrong in (b"\x20\x02\x01\x00", b"\x10\x00", b"\x90\x03\x00\x09\x00", b"\x30\xff\xff\xff\xff\x01"):
            with self.assertRaises(receiver.Malformed):
                self.make().hear(wrong, 0)
        client = receiver.Receiver(receiver.Manner("one", False, []), Payloads(RUN))
        client.greet()
        with self.assertRaises(receiver.Malformed):
            client.hear(b"\xd0\x00", 0)

    def test_what_was_heard_goes_through_a_file(self):
        client = self.make()
        client.hear(publish(1, 7, qos=2, dup=True) + publish(2, 8), 0)
        self.come(client, present=False)
        found = json.loads(json.dumps(receiver.as_json(client.heard)))
        self.assertEqual(receiver.from_json(found), client.heard)


class Drawn(unittest.TestCase):
    def test_there_are_some_of_each_kind(self):
        draw = crowd.Draw({"seed": 1, "round": "r1", "clients": 40, "topics": 2, "wide": 1.0})
        manners = [draw.manner(number) for number in range(500)]
        habits = [draw.habits(manner) for manner in manners]
        matches = sum(any(filter.matches(f"flow/r1/{client}/{topic}") for filter in manner.filters) for manner in manners for client in range(40) for topic in range(2))
        self.assertTrue(15 * 80 < matches < 35 * 80, f"{matches / 80} subscribers a topic")
        of = {
            "version": [manner.v5 for manner in manners], "Receive Maximum": [manner.receive_maximum for manner in manners if manner.v5],
            "handing on": [manner.at_release for manner in manners], "aliases": [manner.aliases for manner in manners if manner.v5],
            "identifiers": [manner.filters[0].identifier for manner in manners if manner.v5], "QoS": [filter.qos for manner in manners for filter in manner.filters],
            "comes and goes": [habit.kind for habit in habits], "acknowledges": [habit.per_tick is None for habit in habits],
            "wildcards": ["+" in manner.filters[0].text or "#" in manner.filters[0].text for manner in manners],
        }  # fmt: skip
        for name, values in of.items():
            kinds = Counter(values)
            self.assertTrue(len(kinds) > 1 and all(count >= 5 for count in kinds.values()), f"{name}: {kinds}")
        overlap = [manner for manner in manners if any(any(other != filter and filter.matches(other.text) for other in manner.filters) for filter in manner.filters)]
        self.assertGreater(len(overlap), 20)
        self.assertEqual(len({manner.name for manner in manners}), 500)


if __name__ == "__main__":
    unittest.main()
