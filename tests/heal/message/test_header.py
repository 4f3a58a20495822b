"""The header of a message is read without its payload: its contents, and what it rules out before anything is decoded."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import heal.message.message
from heal.message.codec import Codec
from heal.message.header import Header, MessageError, UnreadMessage
from heal.message.message import Message
from heal.types import Split
from tests.heal.message.messages import CODECS, SPLITS, make_message, reseal


@given(st.sampled_from(SPLITS), CODECS, st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_the_header_says_what_the_message_says(split: Split, codec: Codec, seed: int) -> None:
    data = make_message(seed, split=split).to_bytes(codec)
    unread, read = UnreadMessage.of(data), Message.from_bytes(data)
    header = unread.header
    assert (header.agent_id, header.agent_type, header.base_hash) == (read.agent_id, read.agent_type, read.base_hash)
    assert (header.timestamp_ns, header.grid, header.coverage) == (read.timestamp_ns, read.grid, read.coverage)
    assert np.array_equal(header.world_SE3_agent, read.world_SE3_agent)
    assert (header.layout.split, list(header.layout.shapes)) == (split, [level.shape for level in read.maps])
    assert header.length_bytes + len(unread.payload) == len(data)
    assert header.to_bytes(bytes(unread.payload)) == data


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [
        (32, struct.pack("<d", float("nan")), "rigid"),
        (216, struct.pack("<2d", -1.0, 1.0), "coverage"),
        (208, struct.pack("<d", 0.0), "range_m"),
        (232, struct.pack("<Q", 255), "255 bytes"),
        (232, struct.pack("<Q", 1 << 40), "too many"),
        (242, struct.pack("<H", 0), "agent_id"),
    ],
)
def test_a_bad_header_is_refused_before_its_payload_is_decoded(
    monkeypatch: pytest.MonkeyPatch, offset: int, value: bytes, reason: str
) -> None:
    monkeypatch.setattr(heal.message.message, "decode", lambda *_: pytest.fail("the payload was decoded"))
    data = bytearray(make_message().to_bytes())
    data[offset : offset + len(value)] = value
    for read in (UnreadMessage.of, Message.from_bytes):
        with pytest.raises(MessageError, match=reason):
            read(reseal(data))


def test_a_header_that_no_receiver_would_read_cannot_be_made() -> None:
    header = UnreadMessage.of(make_message().to_bytes()).header
    with pytest.raises(ValueError, match=r"Message\.coverage"):
        Header(
            header.agent_id,
            header.agent_type,
            header.base_hash,
            0,
            header.world_SE3_agent,
            header.grid,
            header.layout,
            coverage=(0.0, 1.0),
        )
