#!/usr/bin/env python3
"""Resident memory before, during and after a burst that fills the buffers while Kafka is away. `scripts/perf burst` runs it.

    burst.py BENCH MESSAGES SECONDS

500 connections, 200 bytes, QoS 0, buffer_bytes 256 MiB, one shard; Kafka (a sink that answers) is away for ten seconds. A line a second
until SECONDS after the burst; the last line says when memory was within a tenth of that before."""

import subprocess
import sys
import time

from runs import folder, forebay, resident_bytes, say, sink

AWAY_S = 10


def main() -> None:
    bench, messages, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    with folder() as work:
        with sink(bench) as (address, _):
            pass  # its port stays free: the system does not give it away soon
        with forebay(work, address, cluster='buffer_bytes = "256MiB"') as service:
            pid = service.process.pid
            publish = lambda *more: [bench, "pub", "-c", "500", "--per-write", "16", "--target", service.addresses["mqtt"], "--quiet", *more]
            with sink(bench, address):
                subprocess.run(publish("-q", "1", "-m", "100000", "-s", "200"), check=True, stdout=subprocess.DEVNULL)
                time.sleep(3)
            before = resident_bytes(pid)
            say(at="before", resident_bytes=before)
            burst = subprocess.Popen(publish("-q", "0", "-m", messages, "-s", "200"), stdout=subprocess.DEVNULL)
            for second in range(1, AWAY_S + 1):
                time.sleep(1)
                say(at="away", s=second, resident_bytes=resident_bytes(pid))
            with sink(bench, address):
                while burst.poll() is None:
                    time.sleep(1)
                    say(at="back", resident_bytes=resident_bytes(pid))
                began, within = time.monotonic(), None
                while (after := time.monotonic() - began) < seconds:
                    resident = resident_bytes(pid)
                    say(at="after", s=round(after, 1), resident_bytes=resident, of_before=round(resident / before, 3))
                    within = within if within is not None and resident <= 1.1 * before else round(after, 1) if resident <= 1.1 * before else None
                    time.sleep(1)
    say(within_a_tenth_after_s=within, of_before=round(resident / before, 3))


main()
