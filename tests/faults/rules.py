"""Rules in SQL while the service is killed, Kafka is frozen until sinks are full, and a rule changes again and again. `forebay-bench flow --ruled` sends and judges:
bench/src/flow/fates.rs says, without a line of the product, where each message must be."""

import signal
import time

import readers  # tests/python: found by way of stand
import stand
from scenarios import Scenario
from stand import Failed, quantiles

# What of the generator's payload is the number of a message (bench/src/flow/payload.rs).
NUMBER = "subbits(payload, 129, 64, 'integer', 'unsigned', 'little')"
# `second` is slow, and has little room: it is full long before the others.
RULES = """
[[rule]]
name = "pair"
sql = '''FOREACH [1, 2] AS n DO payload AS value, '{form}' AS form, topic(2) AS run, n FROM "flow/#"'''
sinks = ["first", "second"]
[[rule]]
name = "skip"
sql = '''SELECT payload AS value, topic(2) AS run, 1 div ({number} mod 5) AS fails FROM "flow/#"'''
sinks = ["skip"]
on_error = "skip"
[[rule]]
name = "letters"
sql = '''SELECT payload AS value, topic(2) AS run, 1 div (({number} + 4) mod 5) AS fails FROM "flow/#"'''
sinks = ["letters"]
on_error = "dead-letter"
[[rule]]
name = "gate"
sql = '''SELECT payload AS value, 1 div (({number} + 4) mod 7) AS fails FROM "flow/+/+/1"'''
sinks = ["gate"]
on_error = "reject"
[[sink]]
name = "first"
topic = "faults-${{run}}-first-${{form}}${{n}}"
value = "${{value}}"
{sink}
[[sink]]
name = "second"
topic = "faults-${{run}}-second-${{form}}${{n}}"
value = "${{value}}"
linger = "50ms"
max_inflight = 1
batch_bytes = "16KiB"
{sink}
[[sink]]
name = "skip"
topic = "faults-${{run}}-skip"
value = "${{value}}"
{sink}
[[sink]]
name = "letters"
topic = "faults-${{run}}-letters"
value = "${{value}}"
dead_letters_topic = "faults-r1-dead"
{sink}
[[sink]]
name = "gate"
topic = "faults-gate"
value = "${{value}}"
dead_letters_topic = "faults-r1-rejected"
{sink}
"""
PARTS = ("first-a1", "first-a2", "first-b1", "first-b2", "second-a1", "second-a2", "second-b1", "second-b2", "skip", "letters", "dead", "rejected")


class Rules(Scenario):
    """A rule with two rows into each of two sinks, and one of each `on_error`, while the service is killed, Kafka is frozen and the first rule changes its form."""

    name = "rules"
    plain = {"cycles": 12, "round": 1_000, "clients": 20, "buffer": "16MiB", "rate": 1_000, "payload": 2_000, "reconnect_every": 2_000, "freeze": 8.0}
    short = plain | {"cycles": 4}
    long = plain | {"cycles": 100}
    FAULTS = ("kill", "full", "kill_full", "reloads")

    def prepare(self) -> None:
        self.start_kafka()
        for part in PARTS:
            readers.create_topic(self.bootstrap, f"faults-r1-{part}", stand.PARTITIONS)
        readers.create_topic(self.bootstrap, "faults-gate", 1)
        self.flow_options = ["--ruled"]
        self.forms, self.reload_s, self.ready_s, self.done = ["a"], [], [], dict.fromkeys(self.FAULTS, 0)
        level = getattr(self.options, "level", None) or self.options.spool
        # What a sink may hold of the spool is so little that it is full after a few seconds.
        share = "spool_share = 0.1\n" if self.spooled else ""
        self.start_service(filters="flow/+/+/0", more=share + RULES.format(form="a", number=NUMBER, sink=stand.SINK[level]))

    # ---- faults -------------------------------------------------------------------------------------------------------------------

    def hurt(self) -> None:
        self.flow(self.chance.uniform(0.3, 1.5))
        self.reload()
        name = self.FAULTS[(self.cycle - 1) % len(self.FAULTS)]
        self.done[name] += 1
        getattr(self, name)()
        self.flow(self.chance.uniform(0.2, 1.0))

    def kill(self) -> None:
        """A third of the times again into its start; half of the times just after the rule has changed."""
        if self.chance.random() < 0.5:
            self.reload()
        for _ in range(self.chance.choice((1, 1, 2))):
            self.look()
            self.service.kill()
            self.change()
            self.spawn()
            time.sleep(self.chance.uniform(0, 0.2))
        self.ready_s.append(self.service.wait_ready())
        self.load.mark("after kill -9")

    def full(self, kills: bool = False) -> None:
        """Kafka is frozen until nothing is answered any more, or for --freeze s; the rule changes meanwhile."""
        self.load.mark("Kafka away")
        self.kafka("freeze", 1)
        self.flow(self.options.freeze / 2)
        self.kill() if kills else self.reload()
        self.flow(self.options.freeze / 2)
        self.reload()
        self.kafka("thaw", 1)
        self.load.mark("Kafka back")
        self.flow(2)

    def kill_full(self) -> None:
        self.full(kills=True)

    def reloads(self) -> None:
        for _ in range(5):
            self.reload()
            self.flow(0.1)

    def change(self) -> None:
        """The next form of the first rule, in the file."""
        old, new = self.forms[-1], "b" if self.forms[-1] == "a" else "a"
        self.service.text = self.service.text.replace(f"'{old}' AS form", f"'{new}' AS form")
        self.forms.append(new)

    def reload(self) -> None:
        self.change()
        port = self.target.rsplit(":", 1)[1]
        self.service.config_file.write_text(self.service.text.replace("{port}", port))
        lines = lambda: self.service.log_file.read_text(errors="replace").count("configuration reloaded")
        before, began = lines(), time.monotonic()
        self.service.process.send_signal(signal.SIGHUP)
        while lines() == before:
            if time.monotonic() > began + 30 or "reload failed" in self.service.tail():
                raise Failed(f"no reload; the service's log:\n{self.service.tail()}")
            time.sleep(0.01)
        self.reload_s.append(time.monotonic() - began)

    # ---- the verdict --------------------------------------------------------------------------------------------------------------

    def judge(self) -> None:
        super().judge()
        self.facts["what was done"] = self.done | {"changes of the rule": len(self.forms) - 1}
        self.facts["ms until a reload was done"] = quantiles([round(s * 1000) for s in self.reload_s])
        self.facts |= {name: self.counts[name] for name in ("messages of form a", "messages of form b", *(f"records, {part}" for part in ("skip", "letters", "dead", "rejected")))}
        self.checks["each place has its messages, and no others (Q1)"] = not any(kind.startswith("Q1:") for kind in self.faults)
        self.checks["no message has half of a changed rule (Q2)"] = not any(kind.startswith("Q2:") for kind in self.faults)
        self.checks["who can be told is told that a rule rejects it (Q3)"] = not any(kind.startswith("Q3:") for kind in self.faults)
        self.checks["both forms, letters and refusals were there"] = all(
            self.counts[name] > 0 for name in ("messages of form a", "messages of form b", "records, dead", "records, rejected", "refused 0x99")
        )
        self.answered_within("after kill -9", self.options.within, "ready again after kill -9")
