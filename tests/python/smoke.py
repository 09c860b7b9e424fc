#!/usr/bin/env python3
"""One kind of real client, in every MQTT version and QoS it speaks, through a service that runs already; read back and judged:
`smoke.py KIND MQTT_PORT BOOTSTRAP FOLDER`. The service takes `flow/#` to the topic `flow` with the header `client`. Read twice, by Debian's
kcat and by confluent-kafka. `tests/clients.rs` starts it."""

import json
import sys
import time
from pathlib import Path

import checker
import message
import publishers
import readers

MESSAGES = 150  # of each client


def main() -> int:
    kind, port, bootstrap, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    topic = message.KAFKA_TOPIC
    specs = [
        {"id": f"{kind}-{n}", "kind": kind, "version": version, "qos": qos, "kept": qos == 2, "messages": MESSAGES}
        for n, (version, qos) in enumerate(publishers.KINDS[kind][3])
    ]
    (folder / "plan.json").write_text(json.dumps({"clients": specs}))
    complaints = publishers.Publishers(folder, port, specs).wait(120)
    expected = MESSAGES * len(specs)
    for _ in range(300):  # QoS 0 has no answer that tells when it is there
        ends = readers.ends(bootstrap, topic)
        if sum(ends.values()) >= expected:
            break
        time.sleep(0.1)
    passed = not complaints
    print("\n".join(complaints))
    for reader in ("kcat", "confluent"):
        records = folder / f"{reader}.txt"
        readers.dump(reader, bootstrap, topic, expected, records)
        verdict = checker.judge(checker.read_clients(folder), readers.parse(reader, records, topic), {topic: ends})
        print(f"read by {reader}:\n{verdict.text()}")
        passed = passed and verdict.passed
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
