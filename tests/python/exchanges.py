"""Paho publishers at QoS 2 with kept sessions, for a server that is killed again and again: each message is done when its PUBCOMP has come.

    exchanges.py PORT CLIENTS MESSAGES

Client `n` publishes `n 0`, `n 1`, … to `exchanges/n`, ten in flight. Prints `done` when all are.

Paho 2.2.0 forgets that it has sent PUBREL when an attempt to connect fails: at the second attempt `resend_pubrel` becomes `publish`, and a message that is
over at the server is published once more, as a new one [MQTT-4.3.3-6]. `Publisher` keeps that state.
"""

import sys
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MessageState
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


class Publisher(mqtt.Client):
    def _messages_reconnect_reset_out(self):
        with self._out_message_mutex:
            for message in self._out_messages.values():
                if message.state == MessageState.MQTT_MS_RESEND_PUBREL:
                    message.state = MessageState.MQTT_MS_WAIT_FOR_PUBCOMP
            super()._messages_reconnect_reset_out()


def client_of(number, port):
    version = mqtt.MQTTv5 if number % 2 else mqtt.MQTTv311
    kept = {} if version == mqtt.MQTTv5 else {"clean_session": False}
    client = Publisher(mqtt.CallbackAPIVersion.VERSION2, f"exchanges-{number}", protocol=version, **kept)
    client.max_inflight_messages_set(10)
    client.reconnect_delay_set(min_delay=1, max_delay=1)
    if version == mqtt.MQTTv5:
        hour = Properties(PacketTypes.CONNECT)
        hour.SessionExpiryInterval = 3600
        client.connect_async("127.0.0.1", port, clean_start=False, properties=hour)
    else:
        client.connect_async("127.0.0.1", port)
    return client


def publish_all(number, port, messages):
    client = client_of(number, port)
    client.loop_start()
    for message in range(messages):
        client.publish(f"exchanges/{number}", f"{number} {message}", qos=2)
        time.sleep(0.01)
    while client._out_messages:
        time.sleep(0.02)
    client.disconnect()
    client.loop_stop()


def main():
    port, clients, messages = (int(text) for text in sys.argv[1:])
    threads = [threading.Thread(target=publish_all, args=(number, port, messages)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("done")


if __name__ == "__main__":
    main()
