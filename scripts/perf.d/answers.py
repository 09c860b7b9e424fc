#!/usr/bin/env python3
"""The longest answer of the API, and of what each page of the dashboard asks for in Chromium, with very many sinks and sessions. `scripts/perf answers` runs it.

    answers.py BENCH SINKS SESSIONS

FOREBAY_BINARY names the service. A line for each request that took longest, and one with the verdict; exit status 1: one took more than 500 ms."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from urllib.parse import quote

from chromium import answer, chromium, note
from runs import folder, say, sink, threads_cpu_s
from service import PREAMBLE, Service

MOST_MS = 500
TIMES = 5
SINK = '[[sink]]\nname = "sink-{n}"\nfilters = "site-{n}/#"\ntopic = "topic-{n}"\n'
REQUESTS = (
    "status", "version", "config", "listeners", "clusters", "sinks", "sinks?limit=100", "sinks/sink-7", "sinks/sink-7/partitions", "sources", "bridges", "rules", "topics",
    "clients", "clients?limit=1000", "clients?search=nobody", "clients?connected=true", "clients?connected=false&limit=1000", "clients?listener={mqtt}", "subscriptions",
    "subscriptions?topic=dev/7/7/cmd", "subscriptions?topic=nobody/x", "subscriptions?filter=dev/7/7/cmd", "shares", "retained", "top", "topics/match?topic=site-7/x", "events", "history",
    "history?sink=sink-7", "histograms", "spool", "dead-letters", "auth", "bans", "traces", "session", "config/schema",
)  # fmt: skip
# What a person asks for by a button: these go through the whole configuration.
ASKED = (
    ("POST", "sinks/sink-7/test", {"message": {"topic": "site-7/x"}}),
    ("PUT", "sinks/sink-7?dry_run=true", {"filters": ["site-7/#"], "topic": "other", "kafka": "main"}),
    ("POST", "config/check", None),
)
PAGES = (
    "overview", "sinks", "sinks/sink-7", "clients", "clients?search=nobody", "subscriptions", "shares", "retained", "listeners", "clusters", "clusters/main", "spool", "top", "events", "letters",
    "flow", "sources", "rules", "bridges", "config", "sinks?new=yes", "sinks/sink-7?edit=yes", "sql",
)  # fmt: skip


def timed(base: str, path: str, method: str = "GET", token: str = "", body: bytes | None = None) -> tuple[float, int, bytes]:
    """How long an answer takes until its last byte, in milliseconds; its status; it."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(base + path, method=method, headers=headers, data=body)
    began = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=60) as found:
            status, text = found.status, found.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    return (time.monotonic() - began) * 1000, status, text


def main() -> None:
    bench, sinks, sessions = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    found: dict[str, dict] = {}
    with folder() as work, sink(bench) as (address, _):
        config = PREAMBLE.format(shards=2, folder=work).replace("[control]", "pin = false\n\n[control]")
        config += f'[mqtt]\nsessions_max = 2000000\n[kafka.main]\nbootstrap = "{address}"\n' + "".join(SINK.format(n=n) for n in range(sinks))
        service = Service(work, config)
        service.start()
        try:
            note(f"{sinks} sinks")
            where = ["--target", service.addresses["mqtt"], "--pid", str(service.process.pid)]
            job = ["kept", "--sessions", str(sessions), "--filter", "dev/{client}/{group}/cmd", *where]
            subprocess.run([bench, *job], check=True, stdout=subprocess.DEVNULL)
            base = f"{service.addresses['control']}/api/v1/"
            count = json.loads(timed(base, "status")[2])["sessions"]
            note(f"{count} sessions")
            token = (work / "data/control-token").read_text().strip()

            def ask(path: str, *rest) -> bytes:
                took, before = [], sum(threads_cpu_s(service.process.pid).values())
                for _ in range(TIMES):
                    ms, status, text = timed(base, path, *rest)
                    took.append(ms)
                name = f"{rest[0]} {path}" if rest else path
                # What others on the machine do is in the time, and not in the CPU.
                cpu_ms = (sum(threads_cpu_s(service.process.pid).values()) - before) / TIMES * 1000
                found[name] = {"longest_ms": round(max(took), 1), "cpu_ms": round(cpu_ms, 1), "bytes": len(text), "status": status}
                return text

            for path in REQUESTS:
                ask(path.format(mqtt=quote(service.addresses["mqtt"])))
            last = "clients?limit=1000"
            page = json.loads(ask(last))
            ask(f"clients/{quote(page['clients'][7]['client_id'], safe='')}")
            while page["next"]:  # The last page, by way of all others.
                last = f"clients?limit=1000&cursor={page['next']}"
                page = json.loads(timed(base, last)[2])
            ask(last)
            for method, path, body in ASKED:
                ask(path, method, token, service.config_file.read_bytes() if body is None else json.dumps(body).encode())
            pages = answer(chromium(service, "answers", *PAGES, token=token))["pages"]
            log = service.tail()
        finally:
            service.kill()
    for page in pages:
        found[f"page {page['page']}: {page['path']}"] = {"longest_ms": page["longest_ms"], "bytes": page["bytes"], "live_ms": page["live_ms"]}
    over = sorted(name for name, one in found.items() if one["longest_ms"] > MOST_MS or one.get("status", 200) >= 400)
    for name, one in sorted(found.items(), key=lambda item: -item[1]["longest_ms"])[:12]:
        note(f"{one['longest_ms']:8.1f} ms, CPU {one.get('cpu_ms', 0):8.1f} ms  {name}")
    say(kind="answers", sinks=sinks, sessions=count, answers=found, most_ms=MOST_MS, over=over)
    if over:
        note(log[-2000:])
        sys.exit(1)


main()
