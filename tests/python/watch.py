"""Looks at the service's /metrics throughout a run: the most that each gauge has been, the last value of every number, and the ledger."""

import re
import threading
from collections import Counter

from service import Service

LINE = re.compile(r"(forebay_\w+)(?:\{[^}]*\})? ([0-9.e+]+)$")
EVERY_S = 0.5


def read(page: str) -> Counter:
    """Name without prefix and `_total` → its value, summed over all labels."""
    values = Counter()
    for line in page.splitlines():
        if found := LINE.match(line):
            values[found[1].removeprefix("forebay_").removesuffix("_total")] += int(float(found[2]))
    return values


def answers_owed(values: Counter) -> int:
    """PUBLISH packets of QoS 1 and 2 that no PUBACK or PUBREC has gone out for."""
    return values["publishes_qos1"] + values["publishes_qos2"] - values["answers"]


def ledger(values: Counter) -> list[str]:
    """What does not add up when all is done: everything that was received is accounted for, and nothing is left."""
    received = sum(values[f"publishes_qos{qos}"] for qos in (0, 1, 2))
    taken = received - values["publishes_unmatched"] - values["publishes_refused"]
    faults = []
    if values["sink_matched"] != taken:  # one sink in these runs
        faults.append(f"{received} publishes received, {values['sink_matched']} taken by the sink")
    if values["sink_matched"] != values["sink_delivered"] + values["sink_refused"] + values["sink_expired"] + values["sink_buffered_rows"]:
        faults.append("matched is not delivered + refused + expired + buffered")
    if left := values["sink_buffered_rows"]:
        faults.append(f"{left} rows are buffered after everybody is done")
    if refused := values["sink_refused"]:
        faults.append(f"{refused} rows refused by Kafka")
    return faults


class Watch(threading.Thread):
    def __init__(self, service: Service):
        super().__init__(daemon=True)
        self.service, self.over = service, threading.Event()
        self.last, self.most = Counter(), Counter()

    def run(self) -> None:
        while not self.over.wait(EVERY_S):
            self.look()

    def look(self) -> None:
        try:
            status, page = self.service.get("/metrics")
        except OSError:
            return  # on its way out
        if status == 200:
            self.last = read(page)
            self.last["answers_owed"] = answers_owed(self.last)
            for name, value in self.last.items():
                self.most[name] = max(self.most[name], value)

    def settled(self) -> None:
        """Ends the watching with a last look."""
        self.over.set()
        self.join()
        self.look()

    def summary(self) -> dict:
        gauges = ("kafka_buffer_bytes", "sink_buffered_rows", "sink_buffered_bytes", "answers_owed", "stalled_connections", "connections_open")
        return {"most": {name: self.most[name] for name in gauges}, "last": dict(sorted(self.last.items()))}
