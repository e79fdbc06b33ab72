"""Part ids: understood as they are, or refused; never cut and never made up."""

from __future__ import annotations

import pytest

from stfpm_runtime.errors import TriggerError
from stfpm_runtime.line.triggers.part_id import check_part, parse_part


@pytest.mark.parametrize(
    ("payload", "part"),
    [
        (b"", ""),
        (b"  \n", ""),
        (b"{}", ""),
        (b'{"part": ""}', ""),
        (b'{"part": "A-1017"}', "A-1017"),
        (b'{"part": 1017, "shift": 3}', "1017"),
        (b'"A-1017"', "A-1017"),
        (b'{"part": "010123\\u001d21ABC"}', "010123\x1d21ABC"),
        (b'{"part": "010123\x1d21ABC"}', "010123\x1d21ABC"),
        ('{"part": "Gehäuse 7"}'.encode(), "Gehäuse 7"),
    ],
)
def test_what_is_understood(payload, part):
    assert parse_part(payload) == part
    assert parse_part(payload, plain_text=True) == part


@pytest.mark.parametrize(
    "payload",
    [
        b'{"part": "\\ud800"}',
        b'{"part": "A\\nfake line"}',
        b'{"part": "\\u001b[2J"}',
        b'{"part": "A\\u202eB"}',
        b'{"Part": "A-1017"}',
        b'{"part": null}',
        b'{"part": true}',
        b'{"part": 1.5}',
        b'{"part": ["A"]}',
        b'{"part": "A-1017"',
        b"\xff\xfe",
        b'{"part": ' + b"[" * 4000,
        b'{"part": "' + b"A" * 201 + b'"}',
    ],
)
def test_what_is_refused(payload):
    for plain_text in (False, True):
        with pytest.raises(TriggerError) as caught:
            parse_part(payload, plain_text=plain_text)
        assert str(caught.value).isascii()
        assert str(caught.value).isprintable()


def test_plain_text_is_an_id_only_where_it_is_asked_for():
    assert parse_part(b"0017\r\n", plain_text=True) == "0017"
    assert parse_part(b"\x1d01123\n", plain_text=True) == "\x1d01123"
    for payload in (b"A-1017", b"[1]", b"true", b"part=A-1017", b"1.5"):
        with pytest.raises(TriggerError, match="expected"):
            parse_part(payload)


def test_length_is_configured_and_nothing_is_cut():
    assert check_part("A" * 24, 24) == "A" * 24
    with pytest.raises(TriggerError, match=r"24 characters.*expected up to 23"):
        check_part("A" * 24, 23)
