#!/usr/bin/env python3
"""Prints what the generator wrote with --events: events.py FILE [--client N] [--message N]; one line an event, in order.

It follows a verdict back to what a client sent and was told, across any number of deaths of the service."""

import argparse
import signal
import struct
from pathlib import Path
from typing import Iterator, NamedTuple

FORM = struct.Struct("<QQIBBH")
CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, LOST, MARK = 2, 3, 4, 5, 6, 7, 14, 32
NAMES = {
    CONNACK: "CONNACK", PUBLISH: "PUBLISH", PUBACK: "PUBACK", PUBREC: "PUBREC", PUBREL: "PUBREL", PUBCOMP: "PUBCOMP", LOST: "lost", MARK: "mark",
}  # fmt: skip


class Event(NamedTuple):
    ns: int
    number: int
    client: int
    kind: int
    detail: int

    def __str__(self) -> str:
        name = NAMES.get(self.kind, str(self.kind))
        if self.kind == 3:
            what = f"{self.number} QoS {self.detail & 3}{' again' if self.detail & 8 else ''}"
        elif self.kind in (4, 5, 6, 7):
            what = f"{self.number} {'again' if self.kind == 6 and self.detail else f'{self.detail:#04x}' if self.detail else ''}"
        elif self.kind == 2:
            what = f"session present {self.detail}, start {self.number}"
        else:
            what = f"start {self.number}"
        return f"{self.ns / 1e9:12.6f} client {self.client:4} {name:8} {what}".rstrip()


def read(data: bytes) -> Iterator[Event]:
    """Whole events; a generator that was killed may leave part of one."""
    for ns, number, client, kind, detail, _ in FORM.iter_unpack(data[: len(data) // FORM.size * FORM.size]):
        yield Event(ns, number, client, kind, detail)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--client", type=int)
    parser.add_argument("--message", type=int)
    asked = parser.parse_args()
    for event in read(asked.file.read_bytes()):
        about_message = event.kind in (3, 4, 5, 6, 7)
        if event.kind != 32 and asked.client is not None and event.client != asked.client:
            continue
        if about_message and asked.message is not None and event.number != asked.message:
            continue
        print(event)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # into head
    main()
