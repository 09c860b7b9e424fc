"""Looks at the service's /metrics throughout a run: the most that each gauge has been, the last value of every number,
and whether the ledgers balance at each look (docs/METRICS.md). By itself:

    watch.py http://127.0.0.1:8080 --every 0.05 --scrapes 1000
"""

import argparse
import re
import sys
import threading
import time
import urllib.request
from collections import Counter, defaultdict

LINE = re.compile(r"(?:forebay_|(?=process_))(\w+?)(?:_total)?(?:\{([^}]*)\})? ([0-9.e+-]+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# Labels that say where a number was counted. The others say what: they become a part of its name.
WHERE = {"shard", "sink", "listener", "kafka", "bridge", "version"}
EVERY_S = 0.5


def lines(page: str):
    """Each number of a page: name without prefix and `_total`, with the values of labels that say what it is; labels; value. Buckets of histograms
    are left out."""
    for line in page.splitlines():
        if (found := LINE.match(line)) and not found[1].endswith("_bucket"):
            labels, value = dict(LABEL.findall(found[2] or "")), float(found[3])
            name = "_".join([found[1], *(value for label, value in labels.items() if label not in WHERE)])
            yield name, labels, int(value) if value.is_integer() else value


def read(page: str) -> Counter:
    """Name → its value, summed over where it was counted."""
    values = Counter()
    for name, _, value in lines(page):
        values[name] += value
    return values


def total(values: Counter, family: str) -> int:
    """A family's numbers added up, whatever its label says."""
    return sum(value for name, value in values.items() if name.startswith(family + "_"))


# What becomes of a message for a subscriber. `deliveries_sent` counts at every QoS, and is no end at QoS 1 and 2.
DELIVERED = ("sent_qos_0", "acknowledged", "handed_over", "dead_lettered", "moved")
DROPPED = ("queue_full", "disconnected", "slow", "too_large", "denied", "unfit", "expired", "refused_by_client", "unsubscribed", "session_ended", "share_gone")


def sides(kind: str, values: Counter) -> tuple[int, int]:
    """What went in, and what is accounted for."""
    if kind == "deliveries":
        over = sum(values[f"deliveries_{result}"] for result in DELIVERED + DROPPED)
        return total(values, "deliveries_begun"), over + values["deliveries_queued"] + values["deliveries_in_flight"]
    if kind == "bridge, out":
        begun = values["bridge_out_messages_begun"]
        return begun, total(values, "bridge_out_messages") - begun + values["bridge_open_messages"] + values["bridge_queued_messages"]
    if kind == "bridge, in":
        received = total(values, "bridge_messages") - values["bridge_messages_sent_again"]
        return received, values["bridge_settled_messages"] + values["bridge_unsettled_messages"]
    if kind == "sink":
        return total(values, "sink_records_in"), total(values, "sink_records_out") + values["sink_buffered_records"]
    if kind == "listener":
        return values["listener_publishes_received"], total(values, "listener_publishes_routed")
    others = values["wills_published"] + values["api_publishes"]
    return total(values, "publishes_received") + others, total(values, "publishes_routed")


def imbalance(page: str) -> list[str]:
    """What does not add up in one scrape: of each shard, of its messages for subscribers, of each of its sinks and listeners."""
    of = defaultdict(Counter)
    for name, labels, value in lines(page):
        where = {"sink", "listener", "kafka", "bridge"} & set(labels)
        if "shard" not in labels or "kafka" in where:
            continue
        kind = where.pop() if where else "shard"
        of[labels["shard"], kind, labels[kind]][name] += value
    faults = [] if of else ["no numbers of a shard"]
    ledgers = [(*place, values) for place, values in of.items()]
    ledgers += [(shard, "deliveries", shard, values) for shard, kind, _, values in ledgers if kind == "shard"]
    bridges = [ledger for ledger in ledgers if ledger[1] == "bridge"]
    ledgers = [ledger for ledger in ledgers if ledger[1] != "bridge"]
    ledgers += [(shard, f"bridge, {way}", name, values) for shard, _, name, values in bridges for way in ("in", "out")]
    for shard, kind, name, values in sorted(ledgers, key=lambda ledger: ledger[:3]):
        came, went = sides(kind, values)
        if came != went:
            families = ("sink_records", "sink_buffered_records", "listener_publishes", "publishes", "wills_published", "api_publishes")
            families = ("deliveries",) if kind == "deliveries" else families
            families = ("bridge_",) if kind.startswith("bridge") else families
            detail = ", ".join(f"{name} {value}" for name, value in values.items() if value and name.startswith(families))
            faults.append(f"shard {shard}, {kind} {name}: {came} in, {went} accounted for ({detail})")
    return faults


def answers_owed(values: Counter) -> int:
    """PUBLISH packets of QoS 1 and 2 that no PUBACK or PUBREC has gone out for."""
    return values["publishes_received_1"] + values["publishes_received_2"] - values["acknowledgements_sent"]


def ledger(values: Counter) -> list[str]:
    """What does not add up when all is done: everything that was received is accounted for, and nothing is left."""
    received = total(values, "publishes_received")
    taken = received - values["publishes_routed_unmatched"] - values["publishes_routed_refused"]
    faults = []
    if values["sink_records_in_publish"] != taken:  # one sink in these runs
        faults.append(f"{received} publishes received, {values['sink_records_in_publish']} taken by the sink")
    came, went = sides("sink", values)
    if came != went:
        faults.append("records in are not records out + buffered")
    if left := values["sink_buffered_records"]:
        faults.append(f"{left} records are buffered after everybody is done")
    if refused := values["sink_records_out_refused"]:
        faults.append(f"{refused} records refused by Kafka")
    return faults


class Scrapes:
    """Scrapes, counted, and those among them that were out of balance."""

    def __init__(self):
        self.count, self.out_of_balance, self.faults = 0, 0, []
        self.last, self.most = Counter(), Counter()

    def add(self, page: str) -> list[str]:
        self.count += 1
        faults = imbalance(page)
        if faults:
            self.out_of_balance += 1
            self.faults += [f"scrape {self.count}: {fault}" for fault in faults[: max(0, 20 - len(self.faults))]]
        self.last = read(page)
        self.last["answers_owed"] = answers_owed(self.last)
        for name, value in self.last.items():
            self.most[name] = max(self.most[name], value)
        return faults

    def __str__(self) -> str:
        return f"{self.count} scrapes, {self.out_of_balance} out of balance"


class Watch(threading.Thread):
    def __init__(self, service, every_s: float = EVERY_S):
        super().__init__(daemon=True)
        self.service, self.every_s, self.over = service, every_s, threading.Event()
        self.scrapes = Scrapes()

    last = property(lambda self: self.scrapes.last)
    most = property(lambda self: self.scrapes.most)
    faults = property(lambda self: self.scrapes.faults)

    def run(self) -> None:
        while not self.over.wait(self.every_s):
            self.look()

    def look(self) -> None:
        try:
            status, page = self.service.get("/metrics")
        except OSError:
            return  # on its way out
        if status == 200:
            self.scrapes.add(page)

    def settled(self) -> None:
        """Ends the watching with a last look."""
        self.over.set()
        self.join()
        self.look()

    def summary(self) -> dict:
        gauges = ("kafka_buffer_bytes", "sink_buffered_records", "sink_buffered_bytes", "answers_owed", "connections_paused", "connections")
        most = {name: self.most[name] for name in gauges}
        scrapes = {"count": self.scrapes.count, "out_of_balance": self.scrapes.out_of_balance}
        return {"scrapes": scrapes, "most": most, "last": dict(sorted(self.last.items()))}


def main() -> int:
    parser = argparse.ArgumentParser(description="Scrapes /metrics and says whether the ledgers balance at every scrape.")
    parser.add_argument("url", help="the control address, http://127.0.0.1:8080")
    parser.add_argument("--every", type=float, default=EVERY_S, metavar="S", help=f"seconds between scrapes ({EVERY_S})")
    parser.add_argument("--scrapes", type=int, metavar="N", help="ends after so many")
    parser.add_argument("--until-eof", action="store_true", help="ends when standard input does")
    parser.add_argument("--until-gone", action="store_true", help="ends, without complaint, when the service does")
    asked = parser.parse_args()
    over = threading.Event()
    if asked.until_eof:
        threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    scrapes, unanswered, due = Scrapes(), 0, time.monotonic()
    try:
        while not over.is_set() and (asked.scrapes is None or scrapes.count < asked.scrapes):
            try:
                with urllib.request.urlopen(asked.url.rstrip("/") + "/metrics", timeout=10) as answer:
                    for fault in scrapes.add(answer.read().decode()):
                        print(f"scrape {scrapes.count}: {fault}", flush=True)
            except OSError as error:
                if asked.until_gone and scrapes.count:
                    break
                unanswered += 1
                print(f"no answer: {error}", file=sys.stderr)
                if asked.scrapes is not None and unanswered >= 10:
                    break
            due = max(due + asked.every, time.monotonic())
            over.wait(due - time.monotonic())
    except KeyboardInterrupt:
        pass
    print(scrapes if not unanswered else f"{scrapes}, {unanswered} without an answer")
    return 0 if scrapes.count and not scrapes.out_of_balance else 1


if __name__ == "__main__":
    sys.exit(main())
