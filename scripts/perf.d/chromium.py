"""Chromium for the measurements of this folder: dashboard.mjs beside a service."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from runs import CACHE, Service

HERE = Path(__file__).resolve().parent


def note(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def chromium(service: Service, mode: str, *arguments: object, token: str = "") -> subprocess.Popen:
    """`token`: what the pages log in with."""
    address = service.addresses["control"].removeprefix("http://")
    command = ["node", HERE / "dashboard.mjs", address, token, "", mode, *map(str, arguments)]
    node = os.environ.get("FOREBAY_NODE", str(CACHE / "node"))
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=os.environ | {"FOREBAY_NODE": node})


def answer(process: subprocess.Popen) -> dict:
    """The last line of JSON that it says."""
    said = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"Chromium: exit status {process.returncode}")
    return json.loads([line for line in said.splitlines() if line.startswith("{")][-1])
