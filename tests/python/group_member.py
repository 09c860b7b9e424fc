"""A member of a consumer group made of librdkafka: `group_member.py BOOTSTRAP GROUP TOPIC`. Prints each assignment until it is killed."""

import sys

from confluent_kafka import Consumer

bootstrap, group, topic = sys.argv[1:]


def told(_, partitions):
    print("assigned", *sorted(at.partition for at in partitions), flush=True)


consumer = Consumer(
    {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "client.id": "librdkafka",
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 500,
        "partition.assignment.strategy": "range",
        "enable.auto.commit": False,
    }
)
consumer.subscribe([topic], on_assign=told)
while True:
    consumer.poll(0.2)
