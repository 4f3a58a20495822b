"""A message whose map is a compressor's: fewer channels on the wire, and the header says of which compressor."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from heal.message.codec import Codec
from heal.message.header import UnreadMessage
from heal.message.message import Message, MessageError
from tests.heal.message.messages import CODECS, make_message, reseal

HASH = "0123456789abcdef" * 4


@given(codec=CODECS)
@settings(max_examples=20, deadline=None)
def test_the_hash_of_the_compressor_arrives_under_every_codec(codec: Codec) -> None:
    sent = replace(make_message(), compressor=HASH)
    data = sent.to_bytes(codec)
    assert UnreadMessage.of(data).header.compressor == Message.from_bytes(data).compressor == HASH
    plain = make_message().to_bytes(codec)
    assert data[240] == plain[240] | 8 and Message.from_bytes(plain).compressor == ""


def test_the_hash_follows_the_other_names_in_the_header() -> None:
    data = replace(make_message(), compressor=HASH).to_bytes()
    assert data[260 : 260 + 19] == b"vehicle-7m10123abcd" and data[279 : 279 + 32].hex() == HASH
    assert len(data) == 320 + 256  # the header is a multiple of 64 bytes with the hash, as without


def test_a_compressor_is_no_part_of_the_pyramid_split() -> None:
    with pytest.raises(ValueError, match="none under the pyramid split"):
        replace(make_message(split="pyramid"), compressor=HASH)
    data = bytearray(make_message(split="pyramid").to_bytes())
    data[240] |= 8
    with pytest.raises(MessageError, match="unknown flags 0x8"):
        Message.from_bytes(reseal(data))


@pytest.mark.parametrize("text", ["0123", HASH.upper(), HASH[:-1] + "x", HASH + "00"])
def test_what_is_no_hash_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        replace(make_message(), compressor=text)


def test_a_header_without_room_for_the_hash_is_refused() -> None:
    # 260 bytes and 40 of names leave 20 bytes of the header of 320.
    data = bytearray(replace(make_message(), agent_id="v" * 30).to_bytes())
    data[240] |= 8
    with pytest.raises(MessageError, match="hash do not fit into the 20 bytes left"):
        Message.from_bytes(reseal(data))


def test_the_codec_names_its_compressor_by_the_ratio() -> None:
    assert Codec.parse("int8,ae:8,zstd") == Codec("int8", zstd=True, ae_ratio=8)
    assert str(Codec("float16", 0.1, ae_ratio=4)) == "float16,ae:4,score:0.1"
    assert Codec.parse(str(Codec("int4", 0.25, 900, True, 2))) == Codec("int4", 0.25, 900, True, 2)
    with pytest.raises(ValueError, match=r"expected at least 1.*, got 0"):
        Codec.parse("int8,ae:0")
