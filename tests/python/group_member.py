"""A member of a consumer group made of librdkafka: `group_member.py BOOTSTRAP GROUP TOPIC [consumer]`, with the last word by the consumer protocol (KIP-848).
Prints each assignment until it is killed."""

import sys

from confluent_kafka import Consumer

bootstrap, group, topic, *protocol = sys.argv[1:]


CLASSIC = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 500, "partition.assignment.strategy": "range"}


def told(_, partitions):
    print("assigned", *sorted(at.partition for at in partitions), flush=True)


consumer = Consumer(
    {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "client.id": "librdkafka",
        "enable.auto.commit": False,
    }
    | ({"group.protocol": "consumer"} if protocol else CLASSIC)
)
consumer.subscribe([topic], on_assign=told)
while True:
    consumer.poll(0.2)
