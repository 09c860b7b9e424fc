#!/usr/bin/env python3
"""Whether clients and the service understand one another, case by case: `interop.py CA tcp=PORT tls=PORT ws=PORT wss=PORT [CASE...]`, the ports
of one service that is configured as in `tests/clients.rs`.

The cases are those that Eclipse Paho's interoperability suite asks for: `interop_cases.py` in 3.1.1 and 5.0, `interop_cases_5.py` in 5.0 alone. Each
is run over each transport, and once more through a proxy that passes on each byte by itself (`../faults/wire.py`), so that what arrives is
part of a packet, a record of TLS or a frame of WebSocket. No case has names or topics of another one, so many run at a time.

Byte by byte through TLS only the cases with the longest and the most packets run, as each connection costs thousands of segments and the stream within TLS
is the same to all; with FOREBAY_INTEROP=all each does.
"""

import os
import ssl
import subprocess
import sys
import time
import traceback
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Callable

import interop_cases
import interop_cases_5
from interop_clients import Case, Way
from service import ROOT

AT_A_TIME = 16
DRIPPED_THROUGH_TLS = {"basic", "redelivery", "retained", "publisher_repeats", "receive_maximum_of_the_service", "topic_aliases_of_the_client"}
FAULTS_SHOWN = 10


def proxy(stack: ExitStack, port: int) -> int:
    """The port of a proxy that drips."""
    command = [sys.executable, ROOT / "tests/faults/wire.py", "0", f"127.0.0.1:{port}"]
    process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    stack.callback(process.terminate)  # before it is waited for
    process.stdin.write("drip\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def ways(stack: ExitStack, ca: str, ports: dict[str, int]) -> list[Way]:
    found = []
    for transport, port in ports.items():
        tls = ssl.create_default_context(cafile=ca) if transport in ("tls", "wss") else None
        found += [Way(f"{transport}-1", transport, proxy(stack, port), tls, True), Way(transport, transport, port, tls, False)]
    return found


def attempt(run: Callable[[Case], None], way: Way, version: str) -> tuple[float, str]:
    """How long it took, and what is wrong, if anything is."""
    case, fault, begin = Case(way, version, run.__name__), "", time.monotonic()
    try:
        run(case)
    except Exception:
        fault = traceback.format_exc(limit=-4)
    finally:
        case.close()
    return time.monotonic() - begin, fault


def runs_over(name: str, way: Way) -> bool:
    return not (way.drips and way.tls) or name in DRIPPED_THROUGH_TLS or os.environ.get("FOREBAY_INTEROP") == "all"


def table(only: set[str]) -> list[tuple[Callable[[Case], None], str]]:
    """Cases and versions, with the slow ones first."""
    both = [(run, version) for run in interop_cases.CASES for version in ("3.1.1", "5.0")]
    of_5 = [(run, "5.0") for run in interop_cases_5.CASES]
    return [(run, version) for run, version in of_5 + both if not only or run.__name__ in only]


def main(ca: str, ports: dict[str, int], only: set[str]) -> int:
    with ExitStack() as stack:
        through, cases = ways(stack, ca, ports), table(only)
        pool = stack.enter_context(ThreadPoolExecutor(AT_A_TIME))
        tried = {
            (run.__name__, version, way.name): pool.submit(attempt, run, way, version)
            for run, version in cases
            for way in through
            if runs_over(run.__name__, way)
        }
        results = {key: future.result() for key, future in tried.items()}
    passed: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (name, version, way), (took_s, fault) in results.items():
        passed[version, name] += [] if fault else [f"{way} {took_s:.1f} s"]
    for (version, name), over in sorted(passed.items()):
        print(f"{version} {name}: {', '.join(over)}")
    faults = [f"{' '.join(key)}: {fault}" for key, (_, fault) in results.items() if fault]
    print("\n".join(faults[:FAULTS_SHOWN]))
    print(f"{len(results) - len(faults)} of {len(results)} passed")
    return 1 if faults or not results else 0


if __name__ == "__main__":
    words = [word for word in sys.argv[2:] if "=" in word]
    sys.exit(main(sys.argv[1], {name: int(port) for name, port in (word.split("=") for word in words)}, set(sys.argv[2:]) - set(words)))
