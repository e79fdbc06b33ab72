"""The MQTT client of triggers and output: how it is made, encrypted and connected."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable
from typing import Any

from stfpm_runtime.errors import MissingExtraError, OptionError, UnavailableError
from stfpm_runtime.line.config.outputs import MqttOptions

try:
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
except ImportError:
    raise MissingExtraError("paho-mqtt", "mqtt") from None

LOG = logging.getLogger("stfpm.mqtt")
ANSWER_S = 5.0
"""The longest wait for an answer of the broker, in seconds."""
KEEPALIVE_S = 10
"""The connection counts as lost when nothing comes for about this time, in seconds."""
RECONNECT_S = (1, 5)
"""The shortest and the longest wait before paho connects again, in seconds."""
BATCH = 100
"""Verdicts that are handed to paho at once."""
IN_FLIGHT = 20
"""How many messages may be unacknowledged in each direction: as many as mosquitto takes. Others may take fewer."""


class Client(paho.Client):
    """paho's client, whose thread goes on after an error. paho itself catches OSError alone."""

    on_error: Callable[[Exception], bool] | None = None
    """Called by paho's thread with what ended its loop; returns whether the loop begins again. None: it does not."""
    connect_error = ""
    """Why the last attempt to connect failed, in words: paho does not tell `on_connect_fail`."""

    def reconnect(self) -> MQTTErrorCode:
        """Connect. Raises OSError, also for a host's name that cannot be one, so that paho tries again."""
        try:
            return super().reconnect()
        except (OSError, ValueError) as error:
            self.connect_error = str(error)
            raise OSError(self.connect_error) from error

    def loop_stop(self) -> MQTTErrorCode:
        """Stop the thread, and close the connection, which paho leaves open where the thread was about to connect."""
        code = super().loop_stop()
        if connection := self.socket():
            connection.close()
        return code

    def loop_forever(self, timeout: float = 1.0, retry_first_connection: bool = False) -> MQTTErrorCode:
        """Run paho's loop until the client is stopped."""
        while True:
            try:
                return super().loop_forever(timeout, retry_first_connection)
            except Exception as error:
                if self.on_error is None:
                    raise
                if not self.on_error(error):
                    return MQTTErrorCode.MQTT_ERR_UNKNOWN


def make_client(options: MqttOptions, client_id: str = "", session_s: int = 0) -> Client:
    """Return a client that is not connected yet. Raises OptionError for certificates that cannot be read.

    With `session_s` above 0 the broker keeps its session for so many seconds; the client connects again by itself, and
    the caller acknowledges each message.
    """
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id,
        clean_session=None if options.version == "5" else not session_s,  # MQTT 5 says it when it connects
        protocol=MQTTProtocolVersion.MQTTv5 if options.version == "5" else MQTTProtocolVersion.MQTTv311,
        reconnect_on_failure=session_s > 0,
        manual_ack=session_s > 0,
    )
    client.suppress_exceptions = True  # an exception in a callback is logged, and does not end paho's thread
    client.enable_logger(LOG)
    client.reconnect_delay_set(*RECONNECT_S)
    if options.user:
        client.username_pw_set(options.user, options.password)
    if options.tls:
        try:
            context = ssl.create_default_context(cafile=options.ca)
            if options.certificate:
                context.load_cert_chain(options.certificate, options.key)
        except OSError as error:
            remedy = "expected PEM files for ca, certificate and key"
            raise OptionError(f"{options.name}: the certificates cannot be read ({error}); {remedy}") from None
        client.tls_set_context(context)
    return client


def address_of(options: MqttOptions) -> tuple[str, int]:
    """Return the broker's host and port."""
    return options.host, options.port or (8883 if options.tls else 1883)


def session_arguments(options: MqttOptions, session_s: int = 0) -> dict[str, Any]:
    """Return what `connect` and `connect_async` of a client are called with after the address."""
    if options.version != "5":
        return {"keepalive": KEEPALIVE_S}
    properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = session_s
    properties.ReceiveMaximum = IN_FLIGHT
    return {"keepalive": KEEPALIVE_S, "clean_start": not session_s, "properties": properties}


def connect(options: MqttOptions, client: paho.Client) -> int:
    """Connect a client, wait for the broker's answer, and return how many messages may be handed over at once.

    Raises UnavailableError, without the password.
    """
    answered = threading.Event()
    refusals: list[str] = []
    batch = [BATCH]

    def on_connect(client: object, data: object, flags: object, reason: Any, properties: Any) -> None:  # noqa: ANN401
        most = getattr(properties, "ReceiveMaximum", IN_FLIGHT)
        batch[0] = BATCH if most >= IN_FLIGHT else most  # paho does not know the broker's limit
        if reason.is_failure:
            refusals.append(str(reason))
        answered.set()

    client.on_connect = on_connect
    host, port = address_of(options)
    try:
        client.connect(host, port, **session_arguments(options))
    except (OSError, ValueError) as error:
        raise UnavailableError(f"the broker {host}:{port} cannot be reached ({error})") from None
    client.loop_start()
    if not answered.wait(ANSWER_S):
        raise UnavailableError(f"the broker {host}:{port} does not answer")
    if refusals:
        raise UnavailableError(f"the broker {host}:{port} refuses the connection: {refusals[0]}")
    return batch[0]
