"""Values that would end the thread of an output are refused at the start, and secrets are never shown."""

from __future__ import annotations

import logging

import pytest

from stfpm_runtime.errors import ConfigError, OptionError
from stfpm_runtime.line.config.line import read_config
from stfpm_runtime.line.config.outputs import ModbusOptions, MqttOptions, OpcUaOptions, OutputTables, WebhookOptions
from stfpm_runtime.line.outputs import unencrypted_secrets
from stfpm_runtime.line.outputs.mqtt import MqttOutput

LINE = """
model = "model.onnx"
[journal]
path = "line.sqlite"
[[camera]]
name = "top"
source = "0"
"""


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            '[[webhook]]\nurl = "http://h/"\ntoken = "hunter2\\n"',
            "webhook.token: holds a character that a header cannot hold",
        ),
        (
            '[[webhook]]\nurl = "http://h/"\ntoken = "hunter2€"',
            "webhook.token: holds a character that a header cannot hold",
        ),
        ('[[webhook]]\nurl = "http://h/prüfung/hunter2"', "webhook.url: is no address"),
        ('[[webhook]]\nurl = "http://h/a b?hunter2"', "webhook.url: is no address"),
        ('[[webhook]]\nurl = "http://h:port/hunter2"', "webhook.url: is no address"),
        ('[[webhook]]\nurl = "http://h/"\ntimeout_s = 1e12', "webhook.timeout_s: got 1e+12; expected at most 3600"),
        ('[[opcua]]\nurl = "opc.tcp://h:port/hunter2"\nverdict = "i=1"', "opcua.url: is no address"),
        ('[[modbus]]\nhost = "plc\\n"', "modbus.host: got 'plc"),
        ('[[modbus]]\nhost = "plc"\nmax_age_s = -1', "modbus.max_age_s"),
        ('[mqtt]\nhost = "bröker"', "mqtt.host: got 'br"),
        ('[mqtt]\nhost = "broker"\ntopic = "a\\u0000b"', "mqtt.topic"),
        ('[mqtt]\nhost = "broker"\nuser = "a"\npassword = "hunter2\\u0000"', "mqtt.password: holds a zero character"),
        ('[[camera]]\nname = "side"\nsource = "1"\nthreshold = 1e39', "camera.threshold: got 1e+39"),
    ],
)
def test_a_value_that_no_request_can_hold_is_refused(tmp_path, table, message):
    path = tmp_path / "line.toml"
    path.write_text(LINE + table + "\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_certificate_that_is_not_there_is_refused_at_the_start(tmp_path):
    with pytest.raises(OptionError, match=r"mqtt: the certificates cannot be read .*; expected PEM files"):
        MqttOutput(MqttOptions("broker", tls=True, ca=tmp_path / "none.pem"))


def test_secrets_in_the_clear_are_warned_of(follow, caplog):
    opcua = OpcUaOptions("opc.tcp://127.0.0.1:9/", decision="i=1", user="line", password="hunter2")
    tables = OutputTables(
        MqttOptions("127.0.0.1", port=9, user="line", password="hunter2"),
        (WebhookOptions("http://127.0.0.1:9/", token="hunter2"), WebhookOptions("https://h/", "safe", token="hunter2")),
        (ModbusOptions("127.0.0.1", port=9),),
        (opcua,),
    )
    assert unencrypted_secrets(tables) == ["mqtt", "webhook", "opcua"]
    with caplog.at_level(logging.WARNING):
        follow(OutputTables(opcua=(opcua,)))
    assert "opcua: the secret is sent over an unencrypted connection" in caplog.text
    assert "hunter2" not in caplog.text
