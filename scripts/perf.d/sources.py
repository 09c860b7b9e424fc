#!/usr/bin/env python3
"""What the way from Kafka to subscribers costs, beside the same from a publisher; how long it takes, beside Java's consumer; and what a source that is
idle costs those who publish. All in turn, round by round, with one Apache Kafka. `scripts/perf sources` runs it.

    sources.py BENCH ROUNDS SCALE BOOTSTRAP LIBRARIES

  many   CPU of a delivery to 1,000 subscribers at QoS 0 and 1: records that wait in Kafka, and patterns T1 and T2
  one    CPU of a record to one subscriber at QoS 0 and 1, 20,000 a second, and of a message of one publisher at the same rate
  follow p50 and p99 from Kafka's acknowledgement of a record until a subscriber (QoS 1) has it, and until Java's consumer has it; 5,000 a second
  idle   CPU of a message of patterns A and B with a source that has nothing to read, and without it

LIBRARIES is the folder of Kafka's jars. The lines with `aim` at the end say what came of it, as does a table for perf/README.md on standard error."""

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from runs import PREAMBLE, Rounds, Service, figures, folder, load, number, python_of_tests, say, sink, turns, wait

# Pattern, records of a round, and how often the pattern has to be that long: a round takes some hundred ticks of CPU time, so that neither a tick nor
# the source's pause and start is seen in the figures.
MANY = {0: ("T1", 2_000, 1), 1: ("T2", 1_500, 3)}
SUBSCRIBERS = 1_000
RATE_OF_ONE = 20_000
READER = Path(__file__).with_name("Reader.java")
# Topics are as long as the others'.
SOURCE = """\
[[source]]
name = "from-kafka"
kafka = "real"
topic = "{topic}"
mqtt_topic = "fan/out"
payload = "${{value}}"
offset_reset = "earliest"
no_subscriber = "wait"
"""
# The windows of four partitions together are less than one subscriber's queue: nothing is dropped.
DELIVERY = "[delivery]\nqueue_messages_max = 100000\n"
PAIR = """\
name = "pair"
duration = "{seconds}s"
[[group]]
name = "subscriber"
role = "subscribe"
topic = "one/out"
qos = {qos}
[[group]]
name = "publisher"
topic = "one/out"
qos = {qos}
rate = {rate}
per_write = 16
window = 64
"""


def topics(bootstrap: str, names: list[str]) -> None:
    """Of four partitions, by confluent-kafka of the tests' environment."""
    code = "import sys; from confluent_kafka.admin import AdminClient, NewTopic; admin = AdminClient({'bootstrap.servers': sys.argv[1]}); made = admin.create_topics([NewTopic(name, 4, 1) for name in sys.argv[2:]]); [each.result(30) for each in made.values()]"
    subprocess.run([python_of_tests(), "-c", code, bootstrap, *names], check=True)


def fill(bootstrap: str, topic: str, count: int) -> None:
    """Writes records of 100 bytes."""
    lines = ("x" * 100 + "\n") * count
    subprocess.run(["kcat", "-P", "-q", "-b", bootstrap, "-t", topic, "-X", "linger.ms=5"], input=lines, text=True, check=True)


def service(work: Path, name: str, config: str) -> Service:
    made = Service(work / name, PREAMBLE.format(shards=1, folder=work / name) + config)
    made.start()
    return made


def clusters(sink_address: str, bootstrap: str) -> str:
    return f'[kafka.sink]\nbootstrap = "{sink_address}"\n[kafka.real]\nbootstrap = "{bootstrap}"\n[[sink]]\nname = "all"\nkafka = "sink"\nfilters = "dev/#"\ntopic = "ingest"\n'


def order(of: Service, verb: str) -> None:
    token = (of.folder / "data/control-token").read_text().strip()
    request = urllib.request.Request(f"{of.addresses['control']}/api/v1/sources/from-kafka/{verb}", method="POST", headers={"Authorization": f"Bearer {token}"})
    urllib.request.urlopen(request, timeout=30).close()


def settled(of: Service) -> None:
    wait("all of the topic is read and over", lambda: number(of, "forebay_source_partitions") == 4 and number(of, "forebay_source_lag_records") + number(of, "forebay_source_open_messages") == 0)


class Fan:
    """A service with a source and no sink that gets anything."""

    def __init__(self, bench: str, work: Path, address: str, bootstrap: str):
        self.bench, self.work, self.bootstrap = bench, work, bootstrap
        self.service = service(work, "fan", clusters(address, bootstrap) + DELIVERY + SOURCE.format(topic="perf-fan"))

    def from_publisher(self, pattern: str, scale: float) -> dict:
        report = load(self.bench, self.service, self.work, "run", "--pattern", pattern, "--scale", str(scale))
        return self.line(report)

    def from_kafka(self, qos: int, count: int) -> dict:
        """The records are in Kafka, and the source paused, until all have subscribed."""
        order(self.service, "pause")
        wait("the source has given its partitions back", lambda: number(self.service, "forebay_source_partitions") == 0)
        fill(self.bootstrap, "perf-fan", count)
        report = self.work / "report.json"
        command = [self.bench, "sub", "--clients", str(SUBSCRIBERS), "--qos", str(qos), "--topic", "fan/out", "--size", "1", "--messages", str(count * SUBSCRIBERS), "--duration", "60s"]
        command += ["--target", self.service.addresses["mqtt"], "--pid", str(self.service.process.pid), "--quiet", "--json", str(report)]
        report.unlink(missing_ok=True)
        subscribers = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            # The last of them may have to be noticed by the generator, too.
            wait("all have subscribed", lambda: number(self.service, "forebay_subscriptions") >= SUBSCRIBERS)
            time.sleep(0.3)
            order(self.service, "resume")
            words = subscribers.communicate(timeout=90)[0]
        finally:
            subscribers.kill()
            subscribers.wait()
        if subscribers.returncode:
            raise SystemExit(f"{' '.join(command)}: {words}")
        line = self.line(json.loads(report.read_text()))
        if line["deliveries"] != count * SUBSCRIBERS:
            raise SystemExit(f"{line['deliveries']} deliveries, {count * SUBSCRIBERS} expected")
        settled(self.service)
        return line

    @staticmethod
    def line(report: dict) -> dict:
        received = report["totals"]["received"]
        return {"deliveries": received, "wall_s": round(report["totals"]["wall_s"], 3), "cpu_us": round(report["processes"][0]["cpu_s"] * 1e6 / received, 4)}


def follow(bench: str, bootstrap: str, topic: str, seconds: float, *more: str) -> dict:
    command = [bench, "follow", "--filter", "fan/out", "--kafka", bootstrap, "--topic", topic, "--seconds", str(max(1, round(seconds))), *more]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def many(rounds: int, scale: float, fan: Fan) -> None:
    for qos, (pattern, records, longer) in MANY.items():
        found, count = Rounds(), max(20, round(records * scale))
        sides = [("kafka_us", lambda: fan.from_kafka(qos, count)), (f"{pattern}_us", lambda: fan.from_publisher(pattern, longer * scale))]
        fan.from_kafka(qos, 20)
        fan.from_publisher(pattern, 0.05)
        for round_number in range(1, rounds + 1):
            for name, side in turns(round_number, sides):
                line = side()
                say(kind="many", qos=qos, round=round_number, side=name, **line)
                found.note(name, line["cpu_us"])
        found.say(f"many, QoS {qos}", "kafka_us", f"{pattern}_us", 1.1)


def one(rounds: int, scale: float, fan: Fan) -> None:
    seconds = 5 * scale
    for qos in (0, 1):
        def of_kafka() -> dict:
            more = ("--target", fan.service.addresses["mqtt"], "--qos", str(qos), "--rate", str(RATE_OF_ONE), "--warmup", "1", "--pid", str(fan.service.process.pid))
            return {"cpu_us": round(follow(fan.bench, fan.bootstrap, "perf-fan", seconds, *more)["cpu_us_per_record"], 4)}

        def of_publisher() -> dict:
            file = fan.work / "pair.toml"
            file.write_text(PAIR.format(qos=qos, rate=RATE_OF_ONE, seconds=max(1, round(seconds))))
            return Fan.line(load(fan.bench, fan.service, fan.work, "run", str(file)))

        found = Rounds()
        for round_number in range(1, rounds + 1):
            for name, side in turns(round_number, [("kafka_us", of_kafka), ("publisher_us", of_publisher)]):
                line = side()
                say(kind="one", qos=qos, round=round_number, side=name, **line)
                found.note(name, line["cpu_us"])
        found.say(f"one, QoS {qos}", "kafka_us", "publisher_us", 1.1)


def lateness(bench: str, rounds: int, scale: float, bootstrap: str, libraries: str, fan: Fan) -> None:
    java = f"java -Xmx256m -XX:+UseSerialGC -cp '{libraries}/*' {READER} {bootstrap} perf-fan"
    sides = [("forebay_p99_us", ("--target", fan.service.addresses["mqtt"])), ("java_p99_us", ("--consumer", java))]
    found = Rounds()
    for round_number in range(1, rounds + 1):
        for name, more in turns(round_number, sides):
            # What the source reads while Java is asked is for nobody; the next subscriber gets it first, before anything is measured.
            line = follow(bench, bootstrap, "perf-fan" if name.startswith("forebay") else "perf-java", 10 * scale, "--warmup", "3", *(word.replace("perf-fan", "perf-java") for word in more))
            say(kind="follow", round=round_number, side=name, **line)
            found.note(name, line["p99_us"])
    found.say("follow", "forebay_p99_us", "java_p99_us", 1.3)


def idle(bench: str, rounds: int, scale: float, work: Path, address: str, bootstrap: str) -> None:
    found = Rounds()
    for round_number in range(1, rounds + 1):
        for with_source in turns(round_number, [False, True]):
            side = "with_us" if with_source else "without_us"
            made = service(work, side, clusters(address, bootstrap) + (SOURCE.format(topic="perf-idle") if with_source else ""))
            try:
                if with_source:
                    settled(made)
                for pattern in ("A", "B"):
                    load(bench, made, work, "run", "--pattern", pattern, "--scale", "0.1")  # warm
                    line = figures(load(bench, made, work, "run", "--pattern", pattern, "--scale", str(3 * scale)))
                    say(kind="idle", pattern=pattern, round=round_number, side=side, **line)
                    found.note(f"{pattern}_{side}", line["cpu_us_per_message"])
            finally:
                made.kill()
    for pattern in ("A", "B"):
        found.say(f"idle, {pattern}", f"{pattern}_with_us", f"{pattern}_without_us", 1.02)


def main() -> None:
    bench, rounds, scale, bootstrap, libraries = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4], sys.argv[5]
    topics(bootstrap, ["perf-fan", "perf-java", "perf-idle"])
    with folder() as work, sink(bench) as (address, _):
        fan = Fan(bench, work, address, bootstrap)
        try:
            settled(fan.service)
            many(rounds, scale, fan)
            one(rounds, scale, fan)
            lateness(bench, rounds, scale, bootstrap, libraries, fan)
        finally:
            fan.service.kill()
        # Half of them again: two per cent are to be seen.
        idle(bench, rounds + rounds // 2, scale, work, address, bootstrap)
    Rounds.show()


main()
