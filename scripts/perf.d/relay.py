#!/usr/bin/env python3
"""What it costs that a client has connected at another instance than the one that serves it: CPU of both instances together for each message, of clients that all are
relayed, beside the same clients directly, in turn, round by round. `scripts/perf relay` runs it.

    relay.py BENCH ROUNDS SCALE BOOTSTRAP

Two instances of one broker at one Apache Kafka, one shard each. One is drained: it serves nobody, and relays all that connect there to the other one, which serves the clients of both sides.

  C, D2, T4   200 clients, 5,000 clients, and 1,000 pairs of a publisher and a subscriber, each with one message in flight, QoS 1: a relayed packet is written and read once more
  T2          one publisher, 1,000 subscribers, QoS 1"""

import json
import sys
import urllib.request
from pathlib import Path

from runs import PREAMBLE, Rounds, Service, cpu_s, figures, folder, load, number, say, turns, wait

PATTERNS = ("C", "D2", "T4", "T2")
SLOTS = 64
PARTITIONS = 4
# What a relayed message may cost, in messages of a client that is not relayed.
AIM = 1.7
# The names in the group are static, and the topics the same for both.
CONFIG = """\
[kafka.main]
bootstrap = "{bootstrap}"
[delivery]
queue_messages_max = 1000000
queue_bytes_max = "1GiB"
[broker]
name = "{name}"
messages = "perf-relay"
retained = "perf-relay-retained"
sessions = "perf-relay-sessions"
partitions = {partitions}
[broker.link]
bind = "127.0.0.1:0"
"""


def instance(work: Path, name: str, bootstrap: str) -> Service:
    text = PREAMBLE.format(shards=1, folder=work / name) + CONFIG.format(bootstrap=bootstrap, name=name, partitions=PARTITIONS)
    made = Service(work / name, text)
    made.start()
    return made


def slots(of: Service) -> dict[str, int]:
    """How many slots each instance has, as one of them knows."""
    return {one["name"]: len(one["slots"]) for one in json.loads(of.get("/api/v1/broker/slots")[1])["instances"]}


def drain(of: Service) -> None:
    token = (of.folder / "data/control-token").read_text().strip()
    request = urllib.request.Request(f"{of.addresses['control']}/api/v1/broker/drain", method="POST", headers={"Authorization": f"Bearer {token}"})
    urllib.request.urlopen(request, timeout=30).close()


def settled(all_of: list[Service]) -> None:
    """Nothing of the last run is on its way, in either."""
    for of in all_of:
        wait("all of the topics is read and over", lambda of=of: number(of, "forebay_source_lag_records") + number(of, "forebay_source_open_messages") == 0)
        wait("all is in Kafka", lambda of=of: number(of, "forebay_sink_buffered_records") == 0)


def main() -> None:
    bench, rounds, scale, bootstrap = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    found = Rounds()
    with folder() as work:
        started: list[Service] = []
        try:
            for name in ("owner", "front"):
                started.append(instance(work, name, bootstrap))
            owner, front = started
            wait("both to know of each other", lambda: set(slots(owner)) == set(slots(front)) == {"owner", "front"})
            wait("slots to be served", lambda: sum(slots(owner).values()) == SLOTS and slots(owner)["owner"] > 0)
            drain(front)
            wait("all slots to be the other one's", lambda: slots(owner) == slots(front) == {"owner": SLOTS, "front": 0})
            wait("the topics to be read", lambda: all(number(of, "forebay_source_partitions") == PARTITIONS for of in started))
            sides = [("direct", owner), ("relayed", front)]
            for pattern in PATTERNS:
                for _, of in sides:
                    load(bench, of, work, "run", "--pattern", pattern, "--scale", "0.05")  # warm: topics are known
                    settled(started)
                for round_number in range(1, rounds + 1):
                    for name, of in turns(round_number, sides):
                        relays = number(front, "forebay_broker_relays_total")
                        before = sum(cpu_s(each.process.pid) for each in started)
                        other = next(each for each in started if each is not of)
                        report = load(bench, of, work, "run", "--pattern", pattern, "--scale", scale, "--pid", f"other={other.process.pid}")
                        settled(started)
                        used = sum(cpu_s(each.process.pid) for each in started) - before
                        if (number(front, "forebay_broker_relays_total") > relays) != (name == "relayed"):
                            raise SystemExit(f"clients of the side {name!r} came another way")
                        line, totals = figures(report), report["totals"]
                        line["cpu_us_per_message"] = round(sum(each["cpu_us_per_message"] for each in report["processes"]), 4)
                        # With the clients' connecting, and what came after the last answer.
                        line["whole_us_per_message"] = round(used / (totals["sent"] + totals["received"]) * 1e6, 4)
                        say(kind=pattern, round=round_number, side=name, **line)
                        # A round of a trial may take less than a tick of CPU time.
                        found.note(f"{pattern}_{name}_us", max(line["cpu_us_per_message"], 1e-6))
        finally:
            for of in started:
                of.kill()
    for pattern in PATTERNS:
        found.say(pattern, f"{pattern}_relayed_us", f"{pattern}_direct_us", AIM)
    Rounds.show()


main()
