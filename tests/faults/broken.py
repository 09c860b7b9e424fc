"""Builds that break one promise each (src/broken.rs), and settings that promise less than they are judged by: each must be caught, by the
invariant that it breaks. A judge that passes one of them is no judge."""

import argparse
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from stand import ROOT

PROGRAMS = ROOT / ".cache/faults"


class Broken(NamedTuple):
    features: str  # none: the build that there is
    scenario: str
    caught: tuple[str, ...]  # one of these invariants must have faults
    options: dict[str, object] = {}
    needs_spool: bool = False
    about: str = ""


# With `hold_writes_ms` what a group writes goes to the disk that much later: until then a kill -9 takes it as a power cut would.
ALL = {
    "received": Broken("", "kill9", ("I1",), {"level": "received"}, about="answers when a message is in memory, judged as replicated"),
    "session-present": Broken(
        "broken-session-present", "sigterm", ("S",), {"cycles": 1, "insist": False}, about="CONNACK denies sessions that were kept"
    ),
    "answer-before-sync": Broken(
        "faults,broken-answer-before-sync", "kill9", ("I1",), {"hold_writes": 300}, True, "answers stored before the group is on the disk"
    ),
    "cut-not-synced": Broken(
        "faults,broken-cut-not-synced", "kill9", ("I2",), {"hold_writes": 300}, True, "sends a batch before its cut is on the disk"
    ),
    "forget-producer-id": Broken(
        "broken-forget-producer-id", "kill9", ("I2",), {}, True, "sends an earlier start's batches under a new producer id"
    ),
}  # fmt: skip


def build(features: str) -> Path | None:
    """A dev build with these features, laid aside; the plain one goes back to its place in the end."""
    if not features:
        return None
    command = ["cargo", "build", "--quiet", "--package", "forebay", "--bin", "forebay", "--features", features]
    subprocess.run(command, cwd=ROOT, check=True)
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    program = PROGRAMS / f"forebay-{features.replace(',', '-')}"
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    shutil.copy2(target / "debug/forebay", program)
    return program


def verdict(name: str, outcome: str, record: dict | None) -> str | None:
    """What is wrong with how it was judged; `None`: it was caught, by the right invariant."""
    expected = ALL[name].caught
    if record is None:
        return f"{name}: not judged ({outcome})"
    found = {invariant for invariant, count in record["invariants"].items() if count}
    if outcome != "FAILED" or not found & set(expected):
        return f"{name}: {' or '.join(expected)} should have been broken, found {', '.join(sorted(found)) or 'nothing'}"
    return None


def run_all(asked: argparse.Namespace) -> list[str]:
    import run

    wrong, caught = [], []
    spool = asked.spool
    built = False
    try:
        for name, broken in ALL.items():
            if broken.needs_spool and spool == "none":
                print(f"\nskipped: {name} breaks a promise of the spool: --spool stored")
                continue
            print(f"\n==> {name}: {broken.about}", flush=True)
            # Builds of tests are searched for the newest: the copies lie elsewhere, and the plain build is made the newest again.
            program = build(broken.features)
            built |= program is not None
            options = run.of(asked, broken.scenario, "short")
            options.out, options.caught = None, True  # a run that fails is what is wanted: nothing is kept of it
            if name == "received":
                options.spool = "none"
            for option, value in broken.options.items():
                setattr(options, option, value)
            outcome, record = run.run(options, program)
            fault = verdict(name, outcome, record)
            if fault:
                wrong.append(fault)
            else:
                caught.append(f"{name} ({', '.join(i for i, n in record['invariants'].items() if n)})")
    finally:
        if built:
            subprocess.run(["cargo", "build", "--quiet", "--workspace"], cwd=ROOT, check=True)
    print(f"\ncaught: {', '.join(caught) or 'none'}")
    for fault in wrong:
        print(f"NOT CAUGHT: {fault}")
    return [f"broken: {fault}" for fault in wrong]
