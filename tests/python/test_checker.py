"""The checker must be able to fail: one test for each kind of fault it is there to find."""

import unittest

import checker
import message
from checker import Record, Told

PARTITIONS = 4


class World:
    """Two clients and a log in which everything is right, until a test breaks something."""

    def __init__(self, qos: int = 1, messages: int = 60):
        self.clients = {
            name: Told(qos, messages, set(range(messages)) if qos else set(), connects=1, finished=True) for name in ("one", "two")
        }
        self.partitions: dict[int, list[Record]] = {p: [] for p in range(PARTITIONS)}
        for counter in range(messages):
            for name in self.clients:
                self.append(name, counter, qos)

    def append(self, client: str, counter: int, qos: int, **change) -> Record:
        level = counter % message.LEVELS
        key = message.topic_of(client, level).encode()
        value = message.payload_of(client, counter, qos, level).encode()
        right = Record(message.partition_of(key, PARTITIONS), 0, key, (("client", client.encode()),), value)
        record = right._replace(**change)
        self.partitions[record.partition].append(record)
        return record

    def find(self, client: str, counter: int) -> tuple[int, int]:
        for partition, records in self.partitions.items():
            for at, record in enumerate(records):
                if message.parse(record.value)[:2] == (client, counter):
                    return partition, at
        raise KeyError

    def replace(self, client: str, counter: int, **change) -> None:
        partition, at = self.find(client, counter)
        self.partitions[partition][at] = self.partitions[partition][at]._replace(**change)

    def remove(self, client: str, counter: int) -> Record:
        partition, at = self.find(client, counter)
        return self.partitions[partition].pop(at)

    def records(self) -> list[Record]:
        return [r._replace(partition=p, offset=at) for p, rows in self.partitions.items() for at, r in enumerate(rows)]

    def ends(self) -> dict[str, dict[int, int]]:
        return {message.KAFKA_TOPIC: {p: len(rows) for p, rows in self.partitions.items()}}

    def judge(self, **how) -> checker.Verdict:
        return checker.judge(self.clients, self.records(), self.ends(), **how)


class Judge(unittest.TestCase):
    def fails(self, verdict: checker.Verdict, *kinds: str) -> None:
        self.assertEqual(sorted(verdict.faults), sorted(kinds), verdict.text())

    def test_right_is_right(self):
        for qos in (0, 1, 2):
            world = World(qos)
            self.fails(world.judge())
            self.assertGreater(sum(1 for rows in world.partitions.values() if rows), 1, "the test world uses one partition only")

    def test_loss(self):
        for qos in (0, 1, 2):
            world = World(qos)
            world.remove("one", 17)
            self.fails(world.judge(), f"I1: lost at QoS {qos}")

    def test_what_was_not_acknowledged_may_be_missing(self):
        for qos in (1, 2):
            world = World(qos)
            world.remove("one", 59)
            world.clients["one"].acknowledged.discard(59)
            self.fails(world.judge())

    def test_double_at_qos_2_and_0(self):
        for qos in (0, 2):
            world = World(qos)
            world.append("one", 58, qos)
            self.fails(world.judge(), f"I2: doubled at QoS {qos}")
            self.fails(world.judge(crashed=True))

    def test_double_at_qos_1_needs_a_second_connection(self):
        world = World(1)
        world.append("one", 58, 1)
        self.fails(world.judge(), "I2: doubled at QoS 1")
        world.clients["one"].connects = 2
        self.fails(world.judge())

    def test_order(self):
        world = World()
        partition, at = world.find("one", 30)
        rows = world.partitions[partition]
        other = max(i for i, r in enumerate(rows[:at]) if message.parse(r.value).client == "one")
        rows[at], rows[other] = rows[other], rows[at]
        self.fails(world.judge(), "I3: order")

    def test_a_late_second_copy_is_no_break_of_order(self):
        world = World(1)
        world.clients["one"].connects = 2
        world.append("one", 3, 1)
        self.fails(world.judge())

    def test_altered(self):
        world = World()
        partition, at = world.find("two", 5)
        value = bytearray(world.partitions[partition][at].value)
        value[len(value) // 2] ^= 1
        world.replace("two", 5, value=bytes(value))
        self.fails(world.judge(), "I4: altered value", "I1: lost at QoS 1")

    def test_cut_short(self):
        world = World()
        world.replace("two", 5, value=b"")
        self.fails(world.judge(), "I4: altered value", "I1: lost at QoS 1")

    def test_invented(self):
        for client, counter, qos in (("three", 0, 1), ("one", 60, 1), ("one", 7, 2)):
            world = World()
            world.append(client, counter, qos)
            self.fails(world.judge(), "I4: invented message")

    def test_wrong_key(self):
        world = World()
        key = next(k for k in (f"else/{n}".encode() for n in range(99)) if message.partition_of(k, PARTITIONS) == world.find("one", 9)[0])
        world.replace("one", 9, key=key)
        self.fails(world.judge(), "I4: wrong key")

    def test_wrong_headers(self):
        for headers in ((), (("client", b"two"),), (("client", b"one"), ("client", b"one"))):
            world = World()
            world.replace("one", 9, headers=headers)
            self.fails(world.judge(), "I4: wrong headers")

    def test_wrong_partition(self):
        world = World()
        record = world.remove("one", 59)  # the last of its client, so that order stays
        world.partitions[(record.partition + 1) % PARTITIONS].append(record)
        self.fails(world.judge(), "P: key in a wrong partition")

    def test_the_reader_missed_something(self):
        world = World()
        records, ends = world.records(), world.ends()
        self.assertIn("R: the reader skipped or repeated", checker.judge(world.clients, records + records[:1], ends).faults)
        self.assertIn("R: the reader skipped or repeated", checker.judge(world.clients, records[1:], ends).faults)
        for partitions in ends.values():
            partitions[next(p for p, end in partitions.items() if end)] += 1
        self.fails(checker.judge(world.clients, records, ends), "R: the reader stopped early")

    def test_a_connection_that_was_cut_on_purpose(self):
        for qos in (0, 1, 2):
            world = World(qos)
            world.clients["one"].lost_connections, world.clients["one"].connects = 1, 2
            self.fails(world.judge(), "connection lost")
            self.fails(world.judge(cut=True))
            world.remove("one", 7)
            # What QoS 0 had on its way is gone with the connection; an answer of QoS 1 and 2 still binds.
            self.fails(world.judge(cut=True), *([f"I1: lost at QoS {qos}"] if qos else []))

    def test_a_topic_for_each_level(self):
        world = World()
        self.assertIn("I4: wrong topic", world.judge(by_level=True).faults)
        topics = message.kafka_topics(True)
        records, ends = [], {topic: dict.fromkeys(range(PARTITIONS), 0) for topic in topics}
        for record in world.records():
            topic = topics[message.parse(record.value).level]
            records.append(record._replace(topic=topic, offset=ends[topic][record.partition]))
            ends[topic][record.partition] += 1
        self.fails(checker.judge(world.clients, records, ends, by_level=True))
        ends[topics[1]][0] += 1
        self.fails(checker.judge(world.clients, records, ends, by_level=True), "R: the reader stopped early")

    def test_a_client_that_failed(self):
        world = World()
        world.clients["one"].finished = False
        world.clients["two"].errors.append("refused")
        world.clients["two"].lost_connections = 1
        self.fails(world.judge(), "client did not finish", "client error", "connection lost")


class Format(unittest.TestCase):
    def test_message_round_trip(self):
        for counter in (0, 1, 63, 64, 123_456):
            self.assertEqual(message.parse(message.payload_of("a-1", counter, 2, 1).encode()), ("a-1", counter, 2, 1))

    def test_every_flipped_bit_shows(self):
        value = message.payload_of("a-1", 41, 2, 1).encode()
        for bit in range(len(value) * 8):
            broken = bytearray(value)
            broken[bit // 8] ^= 1 << bit % 8
            self.assertIsNone(message.parse(bytes(broken)), bit)

    def test_murmur2_is_javas(self):
        # From org.apache.kafka.common.utils.UtilsTest.
        for text, expected in {
            "21": -973932308,
            "foobar": -790332482,
            "a-little-bit-long-string": -985981536,
            "a-little-bit-longer-string": -1486304829,
            "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
            "abc": 479470107,
        }.items():
            self.assertEqual(message.murmur2(text.encode()), expected & 0xFFFFFFFF, text)

    def test_a_log_with_a_gap_is_an_error(self):
        import pathlib
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            log = pathlib.Path(folder, "one.log")
            log.write_text("c\ns 0\ns 1\na 0\ns 3\nend\n")
            told = checker.read_log(log, 1)
            self.assertEqual((told.sent, told.acknowledged, told.connects, told.finished), (4, {0}, 1, True))
            self.assertEqual(len(told.errors), 1)
            log.write_text("n 5\nall\nend\n")
            self.assertEqual(checker.read_log(log, 2).acknowledged, {0, 1, 2, 3, 4})


if __name__ == "__main__":
    unittest.main()
