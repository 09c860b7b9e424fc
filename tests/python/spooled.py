#!/usr/bin/env python3
"""Proofs of the spool at full size, run by `scripts/proof`; perf/README.md says what each shows:

    stored-away     Kafka away for minutes, sinks at `stored`: publishers, memory, and how the backlog drains beside live traffic
    far-drain       a long way to Kafka, one partition, messages coming in: a backlog shrinks all the same
    dead-topic      one dead topic while three times bytes_max flows through the others
    backlog-start   a start with a backlog of gigabytes: time to the first CONNACK, memory while it drains

What they have in common with the other proofs (folders, records, ledgers at every scrape, the generator's verdict) is in proof.py.
"""

import argparse
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import proof
import readers
import watch
from generator import Orders
from proof import CONNECTION_BYTES, PARTIAL_BYTES_MAX, RECEIVE_BUFFERS_BYTES, TOPIC
from service import Service

MIB = 1 << 20
CONFIG = """\
[service]
shards = {shards}
pin = false
data_dir = "{folder}/data"
[control]
bind = "127.0.0.1:0"
[[listener]]
bind = "127.0.0.1:{port}"
[kafka.main]
bootstrap = "{bootstrap}"
buffer_bytes = "{buffer}"
[spool]
bytes_max = "{spool}"
segment_bytes = "{segment}"
[[sink]]
name = "all"
kafka = "main"
filters = "flow/#"
topic = "${{topic[1]}}"
record_bytes_max = "128KiB"
acknowledge = "stored"
{spill}
"""
DEAD_SINK = """\
[[sink]]
name = "dead"
kafka = "main"
filters = "dead/#"
topic = "${topic[1]}"
record_bytes_max = "128KiB"
acknowledge = "stored"
"""
DEAD_TOPIC = "nobody-made-it"
# What a shard may hold for its spool, beside what crates/base/src/limits.rs has: windows of segments that are read (SEGMENT_WINDOWS_MAX of
# SEGMENT_WINDOW_BYTES), what devices are told once it is durable (HELD_BYTES_MAX), and two groups, the one under way and the next, of a
# quarter of a segment each (docs/internals/SPOOL.md). For what is spooled: a thousandth of it.
WINDOWS_BYTES = 8 << 20
HELD_BYTES_MAX = 16 << 20
SPOOLED_SHARE = 1 / 1_000


def bytes_of(text: str) -> int:
    found = re.fullmatch(r"(\d+)\s*([KMGT]i)?B?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"expected a size as in 512MiB, not {text!r}")
    return int(found[1]) << {None: 0, "Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40}[found[2]]


def mib(count: float) -> float:
    return round(count / MIB, 1)


def quarters(values: list) -> list:
    """Five of them: first, three between, last."""
    return [values[round(n * (len(values) - 1) / 4)] for n in range(5)] if values else []


class Quiet(Service):
    """A service that is ended and started while others look at it."""

    def get(self, path: str) -> tuple[int, str]:
        try:
            return super().get(path)
        except (http.client.HTTPException, KeyError, ValueError) as error:
            raise OSError(error) from error


class Flow(Orders):
    """A generator that is told when to end."""

    def __init__(self, of: "Spooled", name: str, **changed: object):
        o = argparse.Namespace(**(vars(of.options) | {"kafka_topic": TOPIC, "prefix": "flow", "more": (), "judged": True} | changed))
        self.of, self.name, self.options = of, name, o
        self.report_file, self.timeline, self.words_file = (of.folder / f"{name}{end}" for end in (".json", "-timeline.jsonl", ".txt"))
        command = [
            *(proof.generator(), "flow", "--control", "--target", of.service.addresses["mqtt"], "--messages", 1 << 40, "--clients", o.clients),
            *("--topic", f"{o.prefix}/{o.kafka_topic}/{name}-{{client}}/{{topic}}", "--topics", 2, "--rate", o.rate, "--qos", o.qos),
            *("--window", o.window, "--per-write", o.per_write, "--payload", o.payload, "--keep-alive", o.keep_alive, "--seed", o.seed),
            *("--timeout", 86_400, "--patience", o.timeout, "--pid", f"forebay={of.service.process.pid}"),
            *("--json", self.report_file, "--timeline", self.timeline, *o.more),
        ]  # fmt: skip
        if o.judged:
            command += ["--kafka", of.service_bootstrap, "--kafka-topic", o.kafka_topic]
        with open(self.words_file, "w") as out:
            self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=out, text=True)
        of.helpers.append(self.process)
        self.mark("begin")
        of.say(f"{name}: {o.rate or 'as many as go'} messages a second from {o.clients} clients, {o.payload} bytes, QoS {o.qos}")

    def ended(self) -> Exception:
        return SystemExit(f"the generator {self.name} has ended: {self.words_file.read_text()[-2000:]}")

    def lines(self) -> list[dict]:
        """The timeline's whole lines, one a second."""
        try:
            return [json.loads(line) for line in self.timeline.read_text().split("\n")[:-1]]
        except OSError:
            return []

    def behind_most(self, warm_s: float) -> int:
        return max((line["behind"] for line in self.lines() if line["s"] > warm_s), default=0)

    def settle(self) -> None:
        """Nothing new is sent, and what is open is answered."""
        self.order("end")

    def read(self) -> dict:
        """Once all is in Kafka: the verdict."""
        self.process.stdin.close()
        self.process.wait(self.options.timeout + 1_800)
        if not self.report_file.exists():
            raise SystemExit(f"the generator {self.name} ended with status {self.process.returncode}: {self.words_file.read_text()[-2000:]}")
        return json.loads(self.report_file.read_text())


class Spooled(proof.Proof):
    """What these have in common."""

    port: int = 0
    sinks = ""
    flow: Flow | None = None
    starts = 1

    def start_service(self) -> None:
        o = self.options
        text = CONFIG.format(
            folder=self.work, shards=o.shards, port=self.port, bootstrap=self.service_bootstrap, buffer=o.buffer, spool=o.spool, segment=o.segment,
            spill=f'spill_after = "{o.spill}"' if o.spill else "",
        )
        self.service = Quiet(self.work, text + self.sinks)
        self.service.start()
        self.record(self.service)
        self.say(f"{self.service.program} at {self.service.addresses['mqtt']}, spool of {o.spool}")

    def last(self, name: str) -> int:
        return self.recorder.last[name]

    def drains(self, calm_rows: int) -> None:
        """Kafka comes back, and the backlog goes to it while messages come in."""
        self.flow.mark("drain")
        self.kafka_comes()
        drain = self.drain = Drain(self, calm_rows)
        self.wait("the backlog drains while messages come in", drain.over)
        self.say(f"drained in {drain.seconds:.1f} s at {drain.rate():,.0f} a second")
        self.flow.mark("after")

    def speed(self, name: str, ok: bool) -> None:
        """What only a quiet machine and a release build can be judged by."""
        if self.options.trial:
            self.facts[f"not judged: {name}"] = bool(ok)
        else:
            self.checks[name] = bool(ok)

    def wait(self, what: str, over, patience_s: float | None = None) -> bool:
        """Until `over()`; `False`: it did not come in time."""
        until = time.monotonic() + (patience_s or self.options.timeout)
        while not over():
            if self.service.process.poll() is not None:
                raise SystemExit(f"the service has ended with status {self.service.process.returncode}:\n{self.service.tail()}")
            if time.monotonic() > until:
                self.facts[f"never came: {what}"] = {name: self.last(name) for name in ("sink_buffered_records", "sink_spooled_records", "spool_live_bytes")}
                self.checks[what] = False
                return False
            time.sleep(0.05)
        return True

    def wait_drained(self) -> None:
        fresh = self.recorder.scrapes.count
        self.wait("nothing is left in the end", lambda: self.recorder.scrapes.count > fresh + 1 and self.last("sink_buffered_records") == 0)

    def kafka_goes(self) -> None:
        self.stopping = threading.Thread(target=self.kafka, args=("stop",), daemon=True)
        self.stopping.start()
        self.say("Kafka goes away")

    def kafka_comes(self) -> None:
        self.stopping.join()
        self.kafka("start")
        self.say(f"Kafka is back; {self.last('sink_spooled_records'):,} rows in the spool, {mib(self.last('spool_live_bytes'))} MiB")

    def ceiling(self, live_bytes: float) -> float:
        """Of resident memory, with so many bytes of rows in the spool."""
        o = self.options
        shard = RECEIVE_BUFFERS_BYTES + WINDOWS_BYTES + HELD_BYTES_MAX + bytes_of(o.segment) // 2
        fixed = self.at_start["process_resident_memory_bytes"] + o.shards * shard + o.clients * CONNECTION_BYTES
        return fixed + self.at_start["kafka_buffer_bytes_max"] + live_bytes * SPOOLED_SHARE

    def judge_memory(self) -> None:
        most = self.recorder.most
        resident, ceiling = most["process_resident_memory_bytes"], self.ceiling(most["spool_live_bytes"]) + min(most["partial_packet_bytes"], self.options.shards * PARTIAL_BYTES_MAX)
        self.facts["resident MiB at the start, before any client"] = mib(self.at_start["process_resident_memory_bytes"])
        self.facts["resident MiB at most, ceiling"] = [mib(resident), mib(ceiling)]
        self.facts["spooled MiB at most, of the disk at most"] = [mib(most["spool_live_bytes"]), mib(most["spool_bytes"])]
        self.checks["memory under its ceiling throughout"] = resident <= ceiling and most["kafka_buffer_bytes"] <= self.at_start["kafka_buffer_bytes_max"]

    def judge_flow(self, flow: Flow, report: dict) -> None:
        name = flow.name
        self.checks[f"{name}: the generator's verdict"] = report["verdict"]["passed"]
        self.checks[f"{name}: everything sent was answered"] = report["settled"] == report["sent"]["all"] > 0 and not report["refused"]
        # Where the service is started again, each client loses one.
        lost = report["connections"]["lost"]
        self.checks[f"{name}: no connection lost{' but by the start' if self.starts > 1 else ''}"] = lost <= (self.starts - 1) * report["clients"]
        marks = {mark["name"]: mark for mark in report["marks"]}
        self.facts[f"{name}: answers p50, p99, longest, µs"] = {mark: [at["p50_us"], at["p99_us"], at["max_us"]] for mark, at in marks.items()}
        self.facts[f"{name}: answers a second"] = {mark: round(at["answers"] * 1000 / max(at["ended_ms"] - at["at_ms"], 1)) for mark, at in marks.items()}
        self.facts[f"{name}: longest silence ms"] = {mark: at["silence_ms"] for mark, at in marks.items()}
        if report["verdict"]["faults"]:
            self.facts[f"{name}: faults"] = report["verdict"]["faults"]

    def judge(self) -> None:
        self.report = json.loads(self.flow.report_file.read_text())
        self.judge_flow(self.flow, self.report)
        last = self.recorder.last
        left = watch.ledger(last) if not self.sinks else []
        self.checks["the service's ledger balances at the end"] = not left and last["sink_buffered_records"] == 0
        if left:
            self.facts["ledger"] = left
        odd = ("sink_possible_duplicates", "sink_kafka_data_losses", "spool_io_errors", "spool_corruptions", "sink_records_out_dropped_corrupt", "sink_records_out_dropped_oldest")
        self.checks["nothing was lost, doubted or damaged by the service's own count"] = not any(last[name] for name in odd)
        syncs, groups = last["spool_sync_seconds_count"], last["spool_group_bytes_count"]
        self.facts["spool: µs a sync, rows a group"] = [round(last["spool_sync_seconds_sum"] * 1e6 / max(syncs, 1)), round(last["spool_records_written"] / max(groups, 1), 1)]
        self.facts["spool: MiB written, of them moved"] = [mib(last["spool_written_bytes"]), mib(last["spool_relocated_bytes"])]
        self.judge_memory()

    def p99(self, flow: Flow, mark: str) -> int:
        report = json.loads(flow.report_file.read_text())
        return next((at["p99_us"] for at in report["marks"] if at["name"] == mark), 0)

    def judge_p99(self, flow: Flow, before: str, then: str) -> None:
        was, now = self.p99(flow, before), self.p99(flow, then)
        within = self.options.p99_within
        self.speed(f"{flow.name}: p99 of answers in `{then}` within {within:g} times that in `{before}`, and 1 ms", now <= was * within + 1_000)

    def go(self) -> bool:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.work.mkdir()
        try:
            self.run()
            self.disturb()
            self.recorder.settled()
            self.judge()
            self.stop_service()
            return self.summarise()
        finally:
            self.clean_up()

    def words(self) -> list[str]:
        forebay = self.report["processes"][0]
        return [f"  Forebay: {forebay['cpu_us_per_message']:.2f} µs of CPU a message; {self.report['settled']:,} messages", self.flow.words_file.read_text()]

    def compress(self) -> None:
        super().compress()
        done = (self.folder / "summary.json").exists()
        for file in [*self.folder.glob("*-timeline.jsonl")]:
            file.rename(self.folder / "timeline.jsonl") if file.name == "live-timeline.jsonl" else file.unlink()
        super().compress()
        for name in ("live", "peak", "dead", "backlog"):
            if done:
                for end in (".json", ".txt"):
                    (self.folder / (name + end)).unlink(missing_ok=True)


class Drain:
    """From the first record that Kafka takes again until no more is held than what live traffic makes."""

    def __init__(self, of: Spooled, calm_rows: int):
        self.of, self.calm_rows, self.samples = of, calm_rows, []
        self.held = of.recorder.last.copy()
        self.begin = self.end = None
        self.began = time.monotonic()

    def over(self) -> bool:
        last, scrape = self.of.recorder.last, self.of.recorder.scrapes.count
        if self.samples and self.samples[-1][0] == scrape:
            return False
        now = time.monotonic() - self.began
        self.samples.append((scrape, now, last["sink_records_out_delivered"], last["sink_batches"], last["sink_spooled_records"], last["process_resident_memory_bytes"], last["spool_live_bytes"]))
        if self.begin is None and last["sink_records_out_delivered"] > self.held["sink_records_out_delivered"]:
            self.begin = self.samples[-2] if len(self.samples) > 1 else self.samples[-1]
        if self.begin and last["sink_buffered_records"] <= self.calm_rows:
            self.end = self.samples[-1]
        return self.end is not None

    @property
    def seconds(self) -> float:
        return self.end[1] - self.begin[1] if self.end else 0.0

    def rate(self) -> float:
        return (self.end[2] - self.begin[2]) / max(self.seconds, 0.001) if self.end else 0.0

    def batch(self) -> float:
        return (self.end[2] - self.begin[2]) / max(self.end[3] - self.begin[3], 1) if self.end else 0.0

    def rows_over_time(self, every_s: float) -> list[list]:
        """Seconds since Kafka came back, rows in the spool."""
        found, due = [], 0.0
        for sample in self.samples:
            if sample[1] >= due:
                found.append([round(sample[1], 1), sample[4]])
                due = sample[1] + every_s
        return found


def per_batch(begin: dict, end: dict) -> float:
    return round((end["sink_records_out_delivered"] - begin["sink_records_out_delivered"]) / max(end["sink_batches"] - begin["sink_batches"], 1), 1)


class StoredAway(Spooled):
    def run(self) -> None:
        self.start_kafka("--bench", partitions=self.options.partitions)
        self.start_service()
        self.measure_peak()

    def measure_peak(self) -> None:
        """What the same set-up delivers without an outage, as fast as it goes: the first third is not counted."""
        o = self.options
        flow = Flow(self, "peak", rate=0, judged=False, window=64, per_write=16)
        time.sleep(o.peak / 3)
        begin, began = self.recorder.last.copy(), time.monotonic()
        time.sleep(o.peak * 2 / 3)
        end, ended = self.recorder.last.copy(), time.monotonic()
        flow.settle()
        self.wait_drained()
        flow.read()
        self.peak = (end["sink_records_out_delivered"] - begin["sink_records_out_delivered"]) / (ended - began)
        self.facts["peak: delivered a second without an outage"] = round(self.peak)
        self.facts["peak: records a batch"] = per_batch(begin, end)

    def disturb(self) -> None:
        o = self.options
        flow = self.flow = Flow(self, "live")
        time.sleep(o.warm)
        flow.mark("before")
        begin = self.recorder.last.copy()
        time.sleep(o.before)
        self.facts["records a batch before"] = per_batch(begin, self.recorder.last)
        flow.mark("away")
        self.kafka_goes()
        self.samples: list[tuple[float, int, int]] = []
        until = time.monotonic() + o.minutes * 60
        while time.monotonic() < until:
            self.samples.append((until - time.monotonic(), self.last("process_resident_memory_bytes"), self.last("spool_live_bytes")))
            time.sleep(0.2)
        self.stalled = self.recorder.most["connections_paused"], self.recorder.most["spool_full"]
        self.drains(round(o.rate * 0.5))
        begin = self.recorder.last.copy()
        time.sleep(o.after)
        self.facts["records a batch after"] = per_batch(begin, self.recorder.last)
        flow.settle()
        self.wait_drained()
        flow.read()

    def judge(self) -> None:
        super().judge()
        o, drain = self.options, self.drain
        self.facts |= {
            "while away: resident MiB, five times": [mib(sample[1]) for sample in quarters(self.samples)],
            "while away: spooled MiB, five times": [mib(sample[2]) for sample in quarters(self.samples)],
            "while draining: resident MiB, five times": [mib(sample[5]) for sample in quarters(drain.samples)],
            "drain: from, to, s after Kafka was back": [round(drain.begin[1], 1), round(drain.end[1], 1)] if drain.end else None,
            "drain: delivered a second, of peak": [round(drain.rate()), round(drain.rate() / max(self.peak, 1), 2)],
            "drain: records a batch": round(drain.batch(), 1),
            "rows in the spool over time": drain.rows_over_time(max(drain.seconds / 8, 0.2)),
            "due and not sent at most": self.flow.behind_most(o.warm),
        }  # fmt: skip
        half, end = self.samples[len(self.samples) // 2], self.samples[-1]
        growth = (end[1] - half[1], end[2] - half[2])
        self.facts["second half of the absence: growth of memory, of the backlog, MiB"] = [mib(growth[0]), mib(growth[1])]
        self.checks["memory grows by no more than a thousandth of the backlog (and 8 MiB)"] = growth[0] <= growth[1] * SPOOLED_SHARE + 8 * MIB
        self.checks["a backlog there was, greater than memory"] = self.recorder.most["spool_live_bytes"] > self.at_start["kafka_buffer_bytes_max"]
        self.checks["no publisher was held or refused while Kafka was away"] = self.stalled == (0, 0)
        self.speed("publishers kept their pace: at most half a second's messages overdue", self.flow.behind_most(o.warm) < o.rate / 2)
        self.judge_p99(self.flow, "before", "away")
        self.speed(f"the backlog drains at {o.of_peak:g} of peak or better", drain.rate() >= self.peak * o.of_peak)


class FarDrain(Spooled):
    def run(self) -> None:
        self.proxy(self.options.delay)
        self.start_service()

    def proxy(self, delay_ms: float) -> None:
        """Kafka, one partition, behind a proxy, whose address is the one that clients are told."""
        near, far = proof.free_port(), proof.free_port()
        self.service_bootstrap = f"127.0.0.1:{near}"
        command = [sys.executable, Path(proof.__file__).with_name("proxy.py"), near, f"127.0.0.1:{far}", delay_ms]
        self.helpers.append(subprocess.Popen([str(word) for word in command]))
        self.start_kafka("--port", far, "--config", f"advertised.listeners=PLAINTEXT://127.0.0.1:{near}", partitions=1)

    def disturb(self) -> None:
        o = self.options
        flow = self.flow = Flow(self, "live")
        time.sleep(o.warm)
        flow.mark("before")
        time.sleep(o.before)
        flow.mark("away")
        self.kafka_goes()
        time.sleep(o.minutes * 60)
        self.drains(o.rate)
        time.sleep(o.after)
        flow.settle()
        self.wait_drained()
        flow.read()

    def judge(self) -> None:
        super().judge()
        o, drain = self.options, self.drain
        begun = drain.begin[1] if drain.begin else 0.0
        shrinking = [sample for sample in drain.samples if sample[1] >= begun and (not drain.end or sample[1] <= drain.end[1])]
        # Over any five seconds; what a proxy and a scrape do to single ones says nothing.
        grew = []
        for sample in shrinking:
            later = next((other for other in shrinking if other[1] >= sample[1] + 5), None)
            if later and later[4] >= sample[4]:
                grew.append([round(sample[1], 1), sample[4], later[4]])
        self.facts |= {
            "round trip made longer by ms": o.delay,
            "rows in the spool when Kafka was back, seconds until none": [drain.held["sink_spooled_records"], round(drain.seconds, 1)],
            "drain: delivered a second beside those that came in": [round(drain.rate()), o.rate],
            "drain: records a batch": round(drain.batch(), 1),
            "rows in the spool over time": drain.rows_over_time(max(drain.seconds / 10, 0.5)),
            "due and not sent at most": self.flow.behind_most(o.warm),
        }  # fmt: skip
        if grew:
            self.facts["did not shrink in 5 s: at, rows, rows then"] = grew[:10]
        self.checks["a backlog there was"] = drain.held["sink_spooled_records"] >= o.rate * o.minutes * 60 * 0.5
        self.checks["the backlog shrinks throughout"] = bool(drain.end) and not grew
        self.speed("publishers kept their pace: at most half a second's messages overdue", self.flow.behind_most(o.warm) < o.rate / 2)
        self.judge_p99(self.flow, "before", "away")


class DeadTopic(Spooled):
    def run(self) -> None:
        o = self.options
        self.sinks = "" if o.same_sink else DEAD_SINK
        self.start_kafka("--bench", partitions=o.partitions)
        self.start_service()

    def flowed(self) -> int:
        """Bytes that live rows have brought into the spool: rows taken, by their mean size there, those of the dead topic left out."""
        last = self.recorder.last
        return round((last["spool_written_bytes"] - last["spool_relocated_bytes"]) * last["sink_records_out_delivered"] / max(last["spool_records_written"], 1))

    def disturb(self) -> None:
        o = self.options
        flow = self.flow = Flow(self, "live")
        time.sleep(o.warm)
        flow.mark("alone")
        time.sleep(o.before)
        # In the sink of the others it must not reach the share of that sink; in one of its own it passes it, and its publishers wait.
        rate = max(o.rate // (20 if o.same_sink else 4), 1)
        dead = self.dead = Flow(
            self, "dead", rate=rate, kafka_topic=DEAD_TOPIC, prefix="flow" if o.same_sink else "dead", clients=max(o.clients // 10, 1), keep_alive=0
        )
        flow.mark("beside a dead topic")
        begin, aim = self.flowed(), o.times * bytes_of(o.spool)
        self.wait(f"{o.times:g} times bytes_max flows through the others", lambda: self.flowed() - begin >= aim)
        self.facts["through the others beside a dead topic: MiB, times bytes_max"] = [mib(self.flowed() - begin), round((self.flowed() - begin) / bytes_of(o.spool), 2)]
        held = self.recorder.last.copy()
        self.facts["the dead topic: rows and MiB in the spool"] = [held["sink_buffered_records"], mib(held["spool_live_bytes"])]
        self.facts["the dead topic's connections left unread"] = held["connections_paused"]
        self.full, self.stalled = self.recorder.most["spool_full"], self.recorder.most["connections_paused"]
        self.held = held
        flow.mark("the topic is made")
        readers.create_topic(self.bootstrap, DEAD_TOPIC, 1)
        self.say(f"the dead topic is made; {held['sink_buffered_records']:,} rows waited for it")
        dead.settle()
        gone = time.monotonic()
        self.wait("the dead topic's backlog drains once it is there", lambda: self.last("sink_buffered_records") < o.rate)
        self.facts["seconds from then until its backlog was drained"] = round(time.monotonic() - gone, 1)
        flow.mark("after")
        time.sleep(o.after)
        flow.settle()
        self.wait_drained()
        flow.read()
        dead.read()

    def judge(self) -> None:
        super().judge()
        o = self.options
        self.judge_flow(self.dead, json.loads(self.dead.report_file.read_text()))
        self.facts["due and not sent at most"] = self.flow.behind_most(o.warm)
        if o.same_sink:
            self.checks["there was room for every message"] = self.full == 0
        else:
            self.checks["the dead topic filled its share: its publishers were held, and no others"] = 0 < self.stalled <= self.dead.options.clients
        self.judge_p99(self.flow, "alone", "beside a dead topic")
        self.speed("the others kept their pace: at most half a second's messages overdue", self.flow.behind_most(o.warm) < o.rate / 2)


class BacklogStart(Spooled):
    def run(self) -> None:
        self.port = proof.free_port()
        self.start_kafka("--bench", partitions=self.options.partitions)
        self.start_service()
        self.aim = self.options.bytes

    def disturb(self) -> None:
        o = self.options
        # Sessions are kept: after the start the same clients come back, and are told so.
        flow = self.flow = Flow(self, "backlog", rate=0, more=("--spooled",), window=64, per_write=16)
        time.sleep(o.warm)
        self.kafka_goes()
        self.wait(f"{mib(self.aim):g} MiB are spooled", lambda: self.last("spool_live_bytes") >= self.aim)
        self.stopping.join()
        if o.kill:
            self.service.kill()
        else:
            self.service.stop()
        self.recorder.settled()
        self.first = self.recorder.scrapes
        self.facts["left behind: MiB of rows, rows, segments"] = [mib(self.first.last["spool_live_bytes"]), self.first.last["sink_spooled_records"], self.first.last["spool_segments"]]
        self.facts["pages of segments dropped from memory"] = self.forget_pages()
        # Kafka first, so that the drain begins with the start.
        self.kafka("start")
        self.start_again()
        flow.order(f"target {self.service.addresses['mqtt']}")
        flow.mark("after the start")
        self.samples: list[tuple[int, int]] = []
        until = time.monotonic() + o.after
        while time.monotonic() < until:
            self.samples.append((self.last("process_resident_memory_bytes"), self.last("spool_live_bytes")))
            time.sleep(0.1)
        flow.settle()
        self.wait("the backlog drains", lambda: self.last("sink_buffered_records") == 0)
        self.facts["seconds from the start until all was in Kafka"] = round(time.monotonic() - self.started, 1)
        self.facts["recovered rows"] = self.last("sink_records_in_recovery")
        self.wait_drained()
        flow.read()

    def forget_pages(self) -> bool:
        """As after a boot: what the page cache has of the spool goes."""
        os.sync()
        for file in (self.work / "data").rglob("*"):
            if file.is_file():
                with open(file, "rb") as opened:
                    os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return True

    def start_again(self) -> None:
        answered: list[float] = []
        self.starts += 1
        self.started = time.monotonic()
        client = threading.Thread(target=self.connect, args=(answered,), daemon=True)
        client.start()
        self.service.start()
        ready_s = time.monotonic() - self.started
        client.join(60)
        self.facts["seconds from exec to the first CONNACK, to ready"] = [round(answered[0], 3) if answered else None, round(ready_s, 3)]
        self.connack_s = answered[0] if answered else 1e9
        self.recorder = proof.Recorder(self.service, self.folder / "metrics.jsonl", self.options.scrape_every)
        self.recorder.look()
        # The fixed base is that of the empty service at its first start.
        self.facts["resident MiB once ready"] = mib(self.last("process_resident_memory_bytes"))
        self.recorder.start()
        self.say(f"started again: first CONNACK after {self.connack_s:.3f} s")

    def connect(self, answered: list[float]) -> None:
        """CONNECT of 3.1.1, clean, tried every millisecond."""
        packet = b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x00\x00\x03c-0"
        while time.monotonic() < self.started + 60:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
                    connection.sendall(packet)
                    if connection.recv(4) == b"\x20\x02\x00\x00":
                        answered.append(time.monotonic() - self.started)
                        return
            except OSError:
                pass
            time.sleep(0.001)

    def judge(self) -> None:
        super().judge()
        for name in ("count", "out_of_balance"):
            setattr(self.recorder.scrapes, name, getattr(self.recorder.scrapes, name) + getattr(self.first, name))
        self.facts["with messages coming in, while it drains: resident MiB, spooled MiB, five times"] = [[mib(sample[0]), mib(sample[1])] for sample in quarters(self.samples)]
        self.checks["the backlog was found again"] = self.facts["recovered rows"] >= self.facts["left behind: MiB of rows, rows, segments"][1] > 0
        self.speed(f"connections are accepted within {self.options.connack_within:g} s of exec", self.connack_s <= self.options.connack_within)


PROOFS = {"stored-away": StoredAway, "far-drain": FarDrain, "dead-topic": DeadTopic, "backlog-start": BacklogStart}
# Of each: messages a second, clients, window, per write, partitions, QoS, spool, buffer.
SIZES = {
    "stored-away": (50_000, 500, 256, 4, 6, "0:1:1", "32GiB", "64MiB"),
    "far-drain": (1_000, 50, 64, 1, 1, "0:1:1", "2GiB", "16MiB"),
    "dead-topic": (20_000, 200, 64, 4, 6, "0:1:1", "512MiB", "64MiB"),
    "backlog-start": (0, 200, 64, 16, 6, "0:1:1", "0", "64MiB"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="proof", required=True)
    for name, (rate, clients, window, per_write, partitions, qos, spool, buffer) in SIZES.items():
        kind = kinds.add_parser(name)
        add = kind.add_argument
        add("folder", type=Path, help="where results go; must not have a part named work")
        add("--rate", type=int, default=rate, help=f"messages a second, default {rate}")
        add("--clients", type=int, default=clients)
        add("--window", type=int, default=window)
        add("--per-write", type=int, default=per_write)
        add("--payload", type=int, default=1_000 if name == "backlog-start" else 100)
        add("--qos", default=qos, help=f"weights of QoS 0, 1 and 2, default {qos}")
        add("--keep-alive", type=int, default=20)
        add("--seed", type=int, default=1)
        add("--shards", type=int, default=2)
        add("--partitions", type=int, default=partitions)
        add("--buffer", default=buffer, help="memory for records on their way")
        add("--spool", default=spool, help=f"bytes_max, default {spool}")
        add("--segment", default="64MiB" if name in ("stored-away", "backlog-start") else "8MiB", help="segment_bytes")
        add("--spill", default="768KiB" if name == "far-drain" else "", help="spill_after: what is past it has to be read back; default a quarter of --buffer")
        add("--timeout", type=int, default=1_800, help="seconds for a drain, and for answers at the end")
        add("--warm", type=float, default=3, metavar="SECONDS", help="not judged at the start")
        add("--before", type=float, default=20, metavar="SECONDS", help="of flow before it happens")
        add("--after", type=float, default=20, metavar="SECONDS", help="of flow after it")
        add("--p99-within", type=float, default=1.5, metavar="TIMES")
        add("--trial", action="store_true", help="speed is told and not judged")
        add("--scrape-every", type=float, default=proof.SCRAPE_S, metavar="S")
        if name in ("stored-away", "far-drain"):
            add("--minutes", type=float, default=10 if name == "stored-away" else 1, help="Kafka is away")
        if name == "stored-away":
            add("--peak", type=float, default=30, metavar="SECONDS", help="for measuring the peak")
            add("--of-peak", type=float, default=0.8)
        elif name == "far-drain":
            add("--delay", type=float, default=50, metavar="MS", help="added to each round trip")
        elif name == "dead-topic":
            add("--times", type=float, default=3, help="bytes_max so often through the others")
            add("--same-sink", action="store_true", help="the dead topic is one of the sink of the others, with a twentieth of their rate")
        else:
            add("--bytes", type=bytes_of, default=10 << 30, help="the backlog, as in 10GiB")
            add("--kill", action="store_true", help="kill -9 instead of SIGTERM")
            add("--connack-within", type=float, default=1, metavar="SECONDS")
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    options.level = "stored"
    if options.proof == "backlog-start" and options.spool == "0":
        options.spool = f"{max(options.bytes * 2 >> 20, 2048)}MiB"
    return 0 if PROOFS[options.proof](options).go() else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that an end from outside cleans up too
    sys.exit(main())
