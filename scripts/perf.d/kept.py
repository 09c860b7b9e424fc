#!/usr/bin/env python3
"""Sessions that are kept without their clients: what each takes, and what it costs to send what waits for them. `scripts/perf kept` runs it.

    kept.py BENCH

FOREBAY_BINARY names the service. No message goes to Kafka. With "start": how long the next start takes after kill -9, until it is ready."""

import json
import subprocess
import sys
import time

from runs import folder, say
from service import NO_KAFKA, PREAMBLE, Service

SESSIONS = '[mqtt]\nsessions_max = 2000000\n'
QUEUES = ("--sessions", "10000", "--messages", "1000", "--patience", "120")
FILTERS = ("--sessions", "100000", "--filter", "dev/{client}/{group}/cmd", "--filter", "site/{client%100}/#")


def kept(bench: str, shards: int, spool: str, *job: str) -> None:
    with folder() as work:
        # Eight shards on whatever there is.
        preamble = PREAMBLE.format(shards=shards, folder=work).replace("[control]", f"pin = {str(shards == 1).lower()}\n\n[control]")
        service = Service(work, preamble + NO_KAFKA + SESSIONS + spool)
        service.start()
        try:
            where = ["--target", service.addresses["mqtt"], "--pid", str(service.process.pid)]
            done = subprocess.run([bench, "kept", *job, *where], check=True, stdout=subprocess.PIPE, text=True)
            service.kill()
            began = time.monotonic()
            if spool:
                service.start()
            start = {"start_s": round(time.monotonic() - began, 2)} if spool else {}
            say(shards=shards, spool=bool(spool), **json.loads(done.stdout), **start)
        finally:
            service.kill()


def main() -> None:
    bench = sys.argv[1]
    for shards, job in ((1, QUEUES), (8, FILTERS)):
        for spool in ("", '[spool]\nbytes_max = "4GiB"\n'):
            kept(bench, shards, spool, *job)


main()
