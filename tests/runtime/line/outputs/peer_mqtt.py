"""A subscriber with a session that the broker keeps, as a process. argv: port, log."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion


def main(port: int, log: Path) -> None:
    def write(record: dict) -> None:
        with log.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def hear(client, data, message) -> None:
        try:
            payload = json.loads(message.payload)
        except ValueError:
            payload = message.payload.decode()
        write({"topic": message.topic, "payload": payload, "retain": message.retain})

    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="plant", clean_session=False)
    client.reconnect_delay_set(0.1, 0.5)
    client.on_connect = lambda *arguments: client.subscribe("#", qos=1)
    client.on_subscribe = lambda *arguments: write({"subscribed": True})
    client.on_message = hear
    while True:
        try:
            client.connect("127.0.0.1", port)
            break
        except OSError:
            time.sleep(0.05)
    client.loop_forever(retry_first_connection=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
