"""Rules that are wrong on purpose (tests/broken/service.rs), and settings that promise less than they are judged by: each must be caught, by the
invariant that it breaks, and the same run with nothing broken must pass. A judge that passes one of the others is no judge."""

import argparse
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from stand import CACHE, ROOT

PROGRAMS = CACHE / "faults"


class Broken(NamedTuple):
    about: str
    scenario: str
    caught: tuple[str, ...]  # one of these invariants must have faults; none: nothing is broken
    options: dict[str, object] = {}
    breaks: str | None = None  # FOREBAY_TEST_WRONG_RULE
    needs_spool: bool = False


# With `hold_writes_ms` what a group writes goes to the disk that much later: until then a kill -9 takes it as a power cut would.
HELD = {"cycles": 4, "round": 4, "hold_writes": 300}
# A subscriber with a Receive Maximum of 1 waits for two groups for each message; and what never comes is not waited for.
SUBSCRIBERS = {"cycles": 4, "round": 4, "patience": 20}
HELD_SUBSCRIBERS = SUBSCRIBERS | {"hold_writes": 300, "rate": 60}
RULES = {"cycles": 4, "round": 1_000, "patience": 20}
HELD_RULES = RULES | {"hold_writes": 300}
BRIDGES = {"cycles": 6, "round": 6, "rate": 40, "clients": 10, "payload": 64, "patience": 20, "hold_writes": 300}
CIRCLE = {"cycles": 1, "round": 1, "rate": 50, "clients": 10, "payload": 64, "patience": 20}
ALL = {
    "received": Broken("answers when a message is in memory, judged as replicated", "sigterm", ("I1",), {"cycles": 2, "level": "received", "spool": "none"}),
    "session-present": Broken(
        "CONNACK denies sessions that were kept", "sigterm", ("S",), {"cycles": 1, "insist": False}, breaks="session-present"
    ),
    "commit-past-open": Broken("commits all that a source has read, whatever is open", "sources", ("K1", "K5"), {"cycles": 2, "patience": 20}, "commit-past-open"),
    "nothing": Broken("nothing is broken, and kill -9 takes what was not synced", "kill9", (), HELD, needs_spool=True),
    "answer-before-sync": Broken(
        "answers stored before the group is on the disk", "kill9", ("I1",), HELD, "answer-before-sync", True
    ),
    "cut-not-synced": Broken("sends a batch before its cut is on the disk", "kill9", ("I2",), HELD, "cut-not-synced", True),
    "forget-producer-id": Broken("sends an earlier start's batches under a new producer id", "kill9", ("I2",), {}, "forget-producer-id", True),
    "nothing-kept": Broken("nothing is broken, and kill -9 takes what was not synced", "subscribers", (), HELD_SUBSCRIBERS | {"patience": 90}, needs_spool=True),
    "confirm-before-sync": Broken(
        "answers before a message is on the disk of the shard that keeps it for subscribers", "subscribers", ("J1",), HELD_SUBSCRIBERS, "confirm-before-sync", True
    ),
    "enter-late": Broken(
        "after a start publishes find a kept session's subscriptions when its client is back", "subscribers", ("J1",), SUBSCRIBERS, "enter-late", True
    ),
    "send-before-sync": Broken(
        "sends QoS 2 to kept sessions before its number is on the disk", "subscribers", ("J2", "J4"), HELD_SUBSCRIBERS, "send-before-sync", True
    ),
    "release-before-sync": Broken(
        "sends PUBREL before it is on the disk that the client has the message", "subscribers", ("J2",), HELD_SUBSCRIBERS, "release-before-sync", True
    ),
    "forget-message": Broken("a start forgets some messages that wait", "subscribers", ("J1",), SUBSCRIBERS, "forget-message", True),
    "forget-once": Broken(
        "each start forgets some messages that wait, and the next one has them again", "subscribers", ("J3",), SUBSCRIBERS | {"cycles": 6, "round": 6}, "forget-once", True
    ),
    "forget-exchange": Broken(
        "a start forgets which QoS 2 messages their publishers may send again", "subscribers", ("J2",), HELD_SUBSCRIBERS | {"cycles": 8, "rate": 120, "patience": 60}, "forget-exchange", True
    ),
    "forget-end": Broken("of half of the messages it is not written that all have acknowledged them", "subscribers", ("J2", "J4"), SUBSCRIBERS | {"cycles": 6}, "forget-end", True),
    "nothing-ruled": Broken("nothing is broken, and kill -9 takes what was not synced", "rules", (), HELD_RULES | {"patience": 90}, needs_spool=True),
    "nothing-bridged": Broken("nothing is broken, and kill -9 takes what was not synced", "bridges-in", (), BRIDGES | {"patience": 90}, needs_spool=True),
    "answer-remote-before-sync": Broken(
        "answers the remote of a bridge before the group of its sink is on the disk", "bridges-in", ("I1",), BRIDGES, "answer-before-sync", True
    ),
    "come-round": Broken("what has come through an instance before goes out by its bridge again", "bridges-circle", ("I2",), CIRCLE, "come-round", True),
    "on-error-ignored": Broken("a message for which a rule fails is dropped, whatever on_error says", "rules", ("I1", "Q3"), RULES, "on-error-ignored", True),
    "outputs-unanswered": Broken("answers before the records that rules make are on the disk", "rules", ("I1",), HELD_RULES | {"cycles": 8}, "outputs-unanswered", True),
}  # fmt: skip


def build(program: Path = PROGRAMS / "forebay-broken") -> Path:
    """The service with one wrong rule, and with faults of the disk."""
    command = ["cargo", "build", "--quiet", "--package", "forebay", "--features", "faults", "--example", "forebay-broken"]
    subprocess.run(command, cwd=ROOT, check=True)
    program.parent.mkdir(parents=True, exist_ok=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    shutil.copy2(target / "debug/examples/forebay-broken", program)
    return program


def verdict(name: str, outcome: str, record: dict | None) -> str | None:
    """What is wrong with how it was judged; `None`: it was caught, by the right invariant, or nothing was broken."""
    expected = ALL[name].caught
    if record is None:
        return f"{name}: not judged ({outcome})"
    found = {invariant for invariant, count in record["invariants"].items() if count}
    if not expected:
        return None if outcome == "passed" else f"{name}: should have passed, found {', '.join(sorted(found)) or 'another check that failed'}"
    if outcome != "FAILED" or not found & set(expected):
        return f"{name}: {' or '.join(expected)} should have been broken, found {', '.join(sorted(found)) or 'nothing'}"
    return None


def run_all(asked: argparse.Namespace) -> list[str]:
    import run

    wrong, caught = [], []
    program = asked.program or (None if os.environ.get("FOREBAY_BINARY") else build())
    for name, broken in ALL.items():
        if broken.needs_spool and asked.spool in (None, "none"):
            print(f"\nskipped: {name} is about the spool: --spool stored")
            continue
        print(f"\n==> {name}: {broken.about}", flush=True)
        options = run.of(asked, broken.scenario, "short")
        options.out, options.caught, options.broken = None, bool(broken.caught), broken.breaks
        for option, value in broken.options.items():
            setattr(options, option, value)
        outcome, record = run.run(options, program, indent="  ")
        fault = verdict(name, outcome, record)
        found = ", ".join(i for i, n in record["invariants"].items() if n) if record else ""
        print(f"FAILED: {name}: {fault}" if fault else f"PASSED: {name}, spool {options.spool}: {'caught by ' + found if found else 'nothing found'}", flush=True)
        (wrong if fault else caught).append(fault or name)
    print(f"\nas it should be: {', '.join(caught) or 'none'}")
    return [f"broken: {fault}" for fault in wrong]
