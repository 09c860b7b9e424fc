"""Brokers of Kafka that are killed beside what a scenario does, and started again."""

import subprocess
import time

from scenarios import Scenario
from stand import ROOT, Failed

# A broker that was killed is there again, with all records.
BROKERS_BACK_S = 120


class BrokersKilled(Scenario):
    """With --brokers 3 a broker is killed with -9 now and then, and started again some cycles later. Before the others in the list of bases."""

    # How likely a cycle begins with the kill of a broker, if all are there.
    BROKER_KILLED = 0.25

    def prepare(self) -> None:
        self.down: int | None = None
        self.coming: subprocess.Popen | None = None
        super().prepare()

    def hurt(self) -> None:
        if self.options.brokers >= 3:
            self.tend_brokers()
        super().hurt()

    def tend_brokers(self) -> None:
        """Kills a broker, if all are there and have all records; one that was killed is started again, beside what goes on, and awaited."""
        if self.down is None and self.chance.random() < self.BROKER_KILLED:
            self.down = self.chance.randint(1, self.options.brokers)
            self.kafka("kill9", self.down)
            self.load.mark("broker killed")
            self.counts["brokers killed"] += 1
        elif self.down and not self.coming and self.chance.random() < 0.5:
            command = [ROOT / "scripts/kafka", "start", "--broker", self.down, "--dir", self.kafka_dir]
            self.coming = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        elif self.coming and self.coming.poll() is not None and not self.behind():
            self.down = self.coming = None

    def behind(self) -> int:
        """Partitions that some replica does not have all records of."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        try:
            found = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0}).list_topics(timeout=20).topics.values()
        except KafkaException:
            return 1
        return sum(len(partition.isrs) < len(partition.replicas) for topic in found for partition in topic.partitions.values())

    def before_end(self) -> None:
        deadline = time.monotonic() + BROKERS_BACK_S
        while self.down:
            if time.monotonic() > deadline:
                raise Failed(f"broker {self.down} has not all records again after {BROKERS_BACK_S} s: {self.behind()} partitions")
            self.tend_brokers()
            self.flow(0.3)
        super().before_end()

    def judge(self) -> None:
        super().judge()
        self.facts["brokers killed"] = self.counts["brokers killed"]
        if self.options.brokers >= 3 and self.cycle >= 20:
            self.checks["brokers were killed"] = self.counts["brokers killed"] > 0
