"""The judge of the matrix must be able to fail: one test for each kind of fault it is there to find."""

import unittest

import matrix

NAMES = ["one", "two"]
TOPIC = "two/2/1"


def right() -> dict[str, matrix.Got]:
    def of(topic: str) -> list[tuple[int, int]]:
        qos = min(map(int, topic.split("/")[1:]))
        return [(qos, number) for number in range(matrix.MESSAGES)]

    return {name: {topic: of(topic) for topic in matrix.topics(NAMES)} for name in NAMES}


class Judge(unittest.TestCase):
    def finds(self, heard: dict[str, matrix.Got], *faults: str) -> None:
        self.assertEqual(matrix.judge(NAMES, heard), list(faults))

    def test_right_is_right(self):
        self.finds(right())

    def test_the_lower_qos_counts(self):
        self.assertEqual(matrix.faults_of("one/0/2", [(0, number) for number in range(matrix.MESSAGES)]), [])
        self.assertEqual(matrix.faults_of("one/2/0", [(0, number) for number in range(matrix.MESSAGES)]), [])
        self.assertEqual(matrix.faults_of("one/2/2", [(2, number) for number in range(matrix.MESSAGES)]), [])

    def test_one_is_missing(self):
        heard = right()
        del heard["one"][TOPIC][2]
        self.finds(heard, f"one: of {TOPIC}: missing: 2")

    def test_a_topic_is_missing(self):
        heard = right()
        del heard["one"][TOPIC]
        self.finds(heard, f"one: of {TOPIC}: missing: 0 1 2 3 4")

    def test_one_came_twice(self):
        heard = right()
        heard["one"][TOPIC].insert(2, heard["one"][TOPIC][2])
        self.finds(heard, f"one: of {TOPIC}: more than once: 2")

    def test_the_wrong_qos(self):
        heard = right()
        heard["one"][TOPIC][3] = (2, 3)
        self.finds(heard, f"one: of {TOPIC}: not at QoS 1: 3")

    def test_out_of_order(self):
        heard = right()
        heard["one"][TOPIC].reverse()
        self.finds(heard, f"one: of {TOPIC}: not in order: 4 3 2 1 0")

    def test_what_was_not_published(self):
        heard = right()
        heard["one"][TOPIC].append((1, 9))
        heard["two"]["three/0/0"] = [(0, 0)]
        self.finds(heard, f"one: of {TOPIC}: never published: 9", "two: got three/0/0, on which nothing was published")

    def test_one_participant_gets_nothing(self):
        heard = right()
        heard["two"].clear()
        self.finds(heard, "two: got nothing")


class Lines(unittest.TestCase):
    def test_messages_are_counted_once_each(self):
        heard = matrix.Heard(NAMES)
        left = heard.left
        for _ in range(2):
            heard.take("library", f"one {TOPIC} 1 3\n")
        self.assertEqual((left - heard.left, heard.got["one"][TOPIC]), (1, [(1, 3), (1, 3)]))
        self.assertEqual(heard.faults, [])

    def test_any_other_line_is_a_fault(self):
        for line in ("one lost its connection", f"three {TOPIC} 1 3", f"one {TOPIC} 1 x", "Error"):
            heard = matrix.Heard(NAMES)
            heard.take("library", f"{line}\n")
            self.assertEqual(heard.faults, [f"library said: {line}"])


if __name__ == "__main__":
    unittest.main()
