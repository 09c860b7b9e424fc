"""The publishers of exchanges.py repeat PUBREL, and not PUBLISH, however many attempts to connect fail."""

import socket
import threading
import unittest

import paho.mqtt.client as mqtt

from exchanges import Publisher

PUBLISH, PUBREC, PUBREL, CONNACK = 0x30, 0x50, 0x60, 0x20


def packet(connection):
    first = connection.recv(1)[0]
    length = connection.recv(1)[0]  # all packets here are shorter than 128 bytes
    body = b""
    while len(body) < length:
        body += connection.recv(length - len(body))
    return first & 0xF0, body


class Exchanges(unittest.TestCase):
    def test_a_message_is_not_published_again_after_its_pubrel(self):
        listener = socket.create_server(("127.0.0.1", 0))
        seen = []

        def serve():
            with listener.accept()[0] as first:
                packet(first)
                first.sendall(bytes([CONNACK, 2, 0, 0]))
                seen.append(packet(first)[0])
                first.sendall(bytes([PUBREC, 2, 0, 1]))
                seen.append(packet(first)[0])
            with listener.accept()[0] as second:  # ends without CONNACK
                packet(second)
            with listener.accept()[0] as third:
                packet(third)
                third.sendall(bytes([CONNACK, 2, 1, 0]))
                kind, body = packet(third)
                seen.append(kind)
                third.sendall(bytes([0x70, 2]) + body[:2])

        server = threading.Thread(target=serve)
        server.start()
        client = Publisher(mqtt.CallbackAPIVersion.VERSION2, "exchanges", clean_session=False)
        client.reconnect_delay_set(1, 1)
        client.connect("127.0.0.1", listener.getsockname()[1])
        client.loop_start()
        client.publish("t", "m", qos=2)
        server.join()
        client.disconnect()
        client.loop_stop()
        listener.close()
        self.assertEqual(seen, [PUBLISH, PUBREL, PUBREL])
