#!/usr/bin/env python3
"""librdkafka's mock cluster, as confluent-kafka brings it: prints its addresses and lives until its standard input ends."""

import sys

from confluent_kafka import Producer

producer = Producer({"bootstrap.servers": "none:1", "test.mock.num.brokers": 2})
brokers = producer.list_topics(timeout=30).brokers.values()
print(",".join(f"{broker.host}:{broker.port}" for broker in brokers), flush=True)
sys.stdin.read()
