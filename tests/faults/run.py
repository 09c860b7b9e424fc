#!/usr/bin/env python3
"""Faults from outside, judged: what `scripts/faults` runs. `scripts/faults help` teaches it, docs/internals/FAULTS.md says what each shows."""

import argparse
import json
import signal
import sys
import textwrap
import time
from pathlib import Path

from stand import ROOT, SPOOLS, Failed, Skipped, quantiles
import scenarios
import hostile
import instances
import kept
import mixed
import moves
import remote_frozen
import remotes
import rules
import sources

# They import the others' base, so that cannot name them.
for made in (hostile.Hostile, kept.Subscribers, kept.Machine, sources.Sources, rules.Rules, remotes.Bridges, remotes.BridgesIn, remotes.BridgesCircle, remotes.BridgesQos0, remote_frozen.BridgesFrozen,
             instances.Instances, instances.Growth, moves.Takeovers, moves.InstanceLost, mixed.Mixed):  # fmt: skip
    scenarios.ALL[made.name] = made

RECORDS = ROOT / "perf/faults"
DEFAULTS = {
    "cycles": 10, "seconds": 86_400.0, "round": 25, "brokers": 1, "freeze": 3.0, "slow": 2.0, "away": 10.0, "limit": 256,
    "clients": 50, "window": 64, "per_write": 8, "payload": 100, "rate": 0, "spool_bytes": "256MiB", "buffer": "32MiB",
    "reconnect_every": 5_000, "subscribers": 500, "wide": 1.0, "qos": "1:2:2", "real": True, "ready_within": 10.0,
}  # fmt: skip
# Which faults of the generator's judge belong to which invariant (docs/internals/FAULTS.md).
INVARIANTS = {
    "I1": ("I1:",), "I2": ("I2:",), "I3": ("I3:",), "I4": ("I4:", "P:"), "S": ("S:",), "R": ("R:",),
    **{f"J{number}": (f"J{number}:",) for number in (1, 2, 3, 4, 5, 7, 8, 12)},
    **{f"K{number}": (f"K{number}:",) for number in range(1, 9)}, **{f"M{number}": (f"M{number}:",) for number in range(1, 11)}, **{f"Q{number}": (f"Q{number}:",) for number in range(1, 4)},
    "standard": ("against the standard",), "finished": ("client did not finish",),
}  # fmt: skip


NO_OPTIONS = ("name", "names", "program", "out", "keep", "caught")  # what says nothing about the run


def invariants(faults: dict[str, dict]) -> dict[str, int]:
    """Faults counted by invariant; a kind that belongs to none counts as `other`."""
    found = dict.fromkeys(INVARIANTS, 0)
    for kind, fault in faults.items():
        name = next((name for name, begins in INVARIANTS.items() if kind.startswith(begins)), "other")
        found[name] = found.get(name, 0) + fault["count"]
    return found


def summary(stand: scenarios.Scenario) -> dict:
    options, counts = stand.options, stand.counts
    lost = sum(count for name, count in counts.items() if name.endswith("answered and not in Kafka"))
    doubled = {qos: counts[f"QoS {qos}: doubled"] for qos in (0, 1, 2)}
    return {
        "scenario": stand.name, "spool": options.spool, "passed": all(stand.checks.values()), "checks": stand.checks, "facts": stand.facts,
        "answered and not in Kafka": lost, "doubled by QoS": doubled, "invariants": invariants(stand.faults), "faults": stand.faults,
        "messages a second": round(counts["settled"] / max(counts["load_s"], 0.001)), "rounds": stand.rounds,
        "wall_s": round(time.monotonic() - stand.began, 1), "counts": dict(sorted(counts.items())),
        "latency_us": {kind: {name: max(values) for name, values in found.items()} for kind, found in stand.latency_us.items()},
        "marks": marks(stand.marks), "options": {name: str(value) for name, value in sorted(vars(options).items()) if name not in NO_OPTIONS}, "date": stand.date,
        "program": stand.program.name, "profile": stand.program.parent.name, **stand.about,
    }  # fmt: skip


def marks(spans: list[dict]) -> dict[str, dict]:
    """By name: how many, and what their first answers and longest silences were."""
    found: dict[str, dict] = {}
    for name in sorted({span["name"] for span in spans}):
        of = [span for span in spans if span["name"] == name]
        found[name] = {
            "count": len(of), "answers": sum(span["answers"] for span in of),
            "first_answer_ms": quantiles([span["first_answer_ms"] for span in of if span["first_answer_ms"] is not None]),
            "silence_ms": quantiles([span["silence_ms"] for span in of]),
        }  # fmt: skip
    return found


def words(record: dict) -> str:
    lines = [f"{'PASSED' if record['passed'] else 'FAILED'}: {record['scenario']}, spool {record['spool']}, append {record['options']['append']}"]
    lines += [f"  {'yes' if ok else 'NO '} {name}" for name, ok in record["checks"].items()]
    lines += [f"  {name}: {value}" for name, value in record["facts"].items()]
    counts = record["counts"]
    lines.append(
        f"  {counts.get('settled', 0):,} messages settled, {record['messages a second']:,} a second; answered and not in Kafka: "
        f"{record['answered and not in Kafka']}; doubled at QoS 0, 1, 2: {', '.join(str(n) for n in record['doubled by QoS'].values())}"
    )
    for kind, fault in record["faults"].items():
        lines += [f"  FAULT {kind}: {fault['count']}", *(f"    {example}" for example in fault["examples"][:3])]
    return "\n".join(lines)


def keep(stand: scenarios.Scenario, record: dict, out: Path) -> None:
    base = out / f"{stand.date}-{stand.name}-{stand.options.spool}"
    folder, number = base, 1
    while folder.exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(record, indent=1) + "\n")
    (folder / "summary.txt").write_text(words(record) + "\n")
    if stand.service and stand.service.config_file.exists():
        text = stand.service.config_file.read_text().replace(str(stand.work), "work")
        (folder / "forebay.toml").write_text(text)


def run(options: argparse.Namespace, program: Path | None = None, indent: str = "") -> tuple[str, dict | None]:
    """Runs one scenario. What came of it: passed, FAILED, skipped; and its record. With `indent` its words are not those of a test."""
    print(f"\n==> {options.name}, spool {options.spool}{', mapped' if options.append == 'mapped' else ''}", flush=True)
    stand = None
    record = None
    try:
        stand = scenarios.ALL[options.name].made(options, program)
        # The record is made before all is cleaned up: the configuration lies in the folder that goes.
        tidy = stand.clean_up

        def clean_up() -> None:
            nonlocal record
            if stand.checks:
                record = summary(stand)
                if options.out:
                    keep(stand, record, options.out)
            tidy()

        stand.clean_up = clean_up
        stand.go()
    except Skipped as why:
        print(f"skipped: {why}", flush=True)
        return "skipped", None
    except Failed as why:
        print(f"{indent}FAILED: {options.name}: {why}", flush=True)
        return "FAILED", record
    print(textwrap.indent(words(record), indent), flush=True)
    return ("passed" if record["passed"] else "FAILED"), record


def of_subscribers(facts: dict) -> str:
    """What a record says of subscribers, if there were some."""
    if "copies expected" not in facts:
        return ""
    return f"; {facts['copies expected']:,} copies {facts['missing']:4} missing {facts['doubled at QoS 2']:4} of QoS 2 doubled {facts['out of order']:4} out of order"


def sum_up(folder: Path) -> tuple[str, bool]:
    """The records of a folder, a line each, and their sums; whether all have passed."""
    lines = []
    total: dict[str, int] = {"cycles": 0, "messages": 0, "lost": 0, "doubled": 0}
    wrong = 0
    for file in sorted(folder.glob("*/summary.json")):
        record = json.loads(file.read_text())
        cycles, lost = record["facts"].get("cycles", 0), record["answered and not in Kafka"]
        doubled = record["doubled by QoS"]["2"]
        settled = record["counts"].get("settled", 0)
        outcome = "passed" if record["passed"] else "FAILED"
        line = f"{outcome}  {file.parent.name:40} {cycles:6} cycles {settled:13,} messages {lost:4} lost {doubled:4} of QoS 2 doubled"
        lines.append(line + of_subscribers(record["facts"]))
        wrong += not record["passed"]
        for name, count in (("cycles", cycles), ("messages", settled), ("lost", lost), ("doubled", doubled)):
            total[name] += count
    lines.append(f"{total['cycles']:,} cycles, {total['messages']:,} messages: {total['lost']} answered and lost, {total['doubled']} of QoS 2 doubled; {wrong} records failed")
    return "\n".join(lines), wrong == 0


def parser() -> argparse.ArgumentParser:
    names = [*scenarios.ALL, "short", "long", "broken", "sum"]
    made = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    made.add_argument("names", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    made.add_argument("--spool", choices=SPOOLS, help="stored, replicated: sinks with a disk buffer; none: in memory (default); `long` runs all three")
    made.add_argument("--cycles", type=int, help="how often the fault comes")
    made.add_argument("--short", action="store_true", help="as small as in `short`")
    made.add_argument("--long", action="store_true", help="as large as in `long`")
    made.add_argument("--seconds", type=float, help="no new cycle after so long; `long` shares them out among its parts")
    made.add_argument("--round", type=int, help="cycles of one generator, Kafka topic and verdict")
    made.add_argument("--clients", type=int)
    made.add_argument("--qos", help="weights of QoS 0, 1 and 2 (default 1:2:2)")
    made.add_argument("--rate", type=int, help="messages a second; 0: all that goes (default)")
    made.add_argument("--window", type=int, help="a client's messages without an answer")
    made.add_argument("--per-write", type=int, help="messages that a client sends at once (default 8)")
    made.add_argument("--payload", type=int)
    made.add_argument("--reconnect-every", type=int, metavar="MESSAGES", help="a client breaks its connection so often (default 5000); 0: never")
    made.add_argument("--keep-alive", type=int, default=60)
    made.add_argument("--timeout", type=int, default=3_600, help="seconds for one round")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--shards", type=int, default=2)
    made.add_argument("--buffer", help="memory for records on their way")
    made.add_argument("--spool-bytes", help="room of the spool (default 256MiB; memory: more)")
    made.add_argument("--when-full", choices=("backpressure", "refuse"), default="backpressure", help="of the spool")
    made.add_argument("--append", choices=("written", "mapped"), default="written", help="how the spool's segments are appended to")
    made.add_argument("--brokers", type=int, choices=(1, 3))
    made.add_argument("--freeze", type=float, metavar="S", help="kafka: the longer of its freezes; instances: the longest")
    made.add_argument("--slow", type=float, metavar="S", help="slow-disk: a sync")
    made.add_argument("--away", type=float, metavar="S", help="memory: Kafka's absence; instances: that of one that was killed, at most")
    made.add_argument("--sessions", metavar="SIZE", default="4GiB", help="several instances: room of the logs of sessions, sessions_bytes_max; 512MiB: they fill up")
    made.add_argument("--takeovers", type=int, metavar="N", help="takeovers: how many (default 1000)")
    made.add_argument("--kinds", metavar="KINDS", help="mixed: which faults, of routes, freeze, kafka, kill, sessions, foreign (default: all)")
    made.add_argument("--limit", type=int, metavar="MIB", help="memory: of the cgroup")
    made.add_argument("--subscribers", type=int, metavar="N", help="subscribers: kept sessions (default 500), beside those of real clients; takeovers, instance-lost: clients that are only connected")
    made.add_argument("--wide", type=float, metavar="X", help="subscribers: so much of the usual share of them asks for very many topics, 4 in 100 (default 1)")
    made.add_argument("--real", action=argparse.BooleanOptionalAction, help="subscribers: a dozen real clients as well (machine: not by itself)")
    made.add_argument("--b8", action=argparse.BooleanOptionalAction, default=True, help="subscribers: QoS 2 comes once also if its publisher sends it again across a kill (rule B8); otherwise that is counted")
    made.add_argument("--disk", choices=("ext4", "tmpfs"), default="ext4", help="disk-full: what data_dir lies on")
    made.add_argument("--within", type=float, default=5.0, metavar="S", help="I7: answers so soon after a fault's end (default 5)")
    made.add_argument("--patience", type=int, default=90, metavar="S", help="I7: all is answered so long after the last message of a round (default 90)")
    made.add_argument("--ready-within", type=float, metavar="S", help="kill9: ready so soon after a start (default 10)")
    made.add_argument("--hold-writes", type=int, default=0, metavar="MS", help="what goes to the disk goes there so much later, and dies with the process until then")
    made.add_argument("--insist", action=argparse.BooleanOptionalAction, help="clients send once more what was forgotten (default: without a spool)")
    made.add_argument("--level", choices=("received",), help="another acknowledge, which promises less: to see the judge say so")
    made.add_argument("--events", action="store_true", help="every send and answer into a file (events.py prints it)")
    made.add_argument("--keep", action="store_true", help="leave the run's folder and topics")
    made.add_argument("--program", type=Path, help="the service's program (default: FOREBAY_BINARY, or the newest build)")
    made.add_argument("--out", type=Path, help="records go there (long: perf/faults)")
    return made


def of(asked: argparse.Namespace, name: str, size: str) -> argparse.Namespace:
    """The options of one scenario: what was asked for, else what its size says, else the defaults."""
    given = argparse.Namespace(**vars(asked))
    made = scenarios.ALL[name]
    sizes = {"short": made.short, "long": made.long, "": made.plain}[size]
    for option, value in (DEFAULTS | sizes).items():
        if getattr(given, option, None) is None:
            setattr(given, option, value)
    given.spool = given.spool or "none"
    if given.insist is None:
        given.insist = given.spool == "none"
    given.name = name
    return given


def plan(asked: argparse.Namespace, name: str) -> list[argparse.Namespace]:
    """What is run for a name of the command line."""
    if name == "short":
        # What appends do when the process, the room or the disk goes is seen for both ways.
        mapped = scenarios.BOTH_APPENDS if asked.spool not in (None, "none") else ()
        both = [(each, append) for each, made in scenarios.ALL.items() if made.in_short for append in ("written", "mapped") if append == "written" or each in mapped]
        return [of(argparse.Namespace(**vars(asked) | {"append": append}), each, "short") for each, append in both]
    if name != "long":
        return [of(asked, name, "short" if asked.short else "long" if asked.long else "")]
    parts = [part for part in scenarios.LONG if asked.spool in (None, part.spool)]
    about = sum(part.seconds for part in parts)
    made = []
    for part in parts:
        options = argparse.Namespace(**vars(asked) | {"spool": part.spool, "out": asked.out or RECORDS})
        for option, value in part.options.items():
            if option == "append" or not getattr(asked, option, None):
                setattr(options, option, value)
        if asked.seconds is not None:
            options.seconds = asked.seconds * part.seconds / about
        made.append(of(options, part.name, "long"))
    return made


def main() -> int:
    asked = parser().parse_args()
    failed = []
    for name in asked.names:
        if name == "sum":
            text, ok = sum_up(asked.out or RECORDS)
            print(text)
            failed += [] if ok else ["sum"]
        elif name == "broken":
            import broken

            failed += broken.run_all(asked)
        else:
            for options in plan(asked, name):
                outcome, _ = run(options, asked.program)
                failed += [f"{options.name} ({options.spool})"] if outcome == "FAILED" else []
            if name == "long" and (asked.out or RECORDS).exists():
                text, _ = sum_up(asked.out or RECORDS)
                print(f"\n{text}")
                ((asked.out or RECORDS) / "summary.txt").write_text(text + "\n")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that an end from outside cleans up too
    sys.exit(main())
