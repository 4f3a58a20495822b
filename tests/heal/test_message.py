"""Messages: exact round trip, stable layout, and a clear error for every other byte string."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heal.grid import BevGrid
from heal.message import FORMAT_VERSION, Message, MessageError
from heal.se3 import pose_to_SE3

GRID = BevGrid((-3.2, -1.6, -3.0, 3.2, 1.6, 1.0), 0.8)


def make_message(seed: int = 0, channels: int = 2) -> Message:
    features = np.random.default_rng(seed).standard_normal((channels, GRID.ny, GRID.nx)).astype(np.float32)
    return Message("vehicle-7", "m1", "0123abcd", 1_700_000_000_123_456_789, pose_to_SE3([5, -2, 1, 1, 40, 2]), GRID, features)


def reseal(damaged: bytearray) -> bytes:
    """The bytes with a valid checksum, as a sender with bad content would make them."""
    damaged[12:16] = struct.pack("<I", zlib.crc32(damaged[16:], zlib.crc32(damaged[:12])))
    return bytes(damaged)


@given(
    seed=st.integers(0, 2**31), channels=st.integers(1, 4), agent_id=st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
)
@settings(max_examples=30, deadline=None)
def test_round_trip_is_exact(seed: int, channels: int, agent_id: str) -> None:
    plain = make_message(seed, channels)
    sent = Message(agent_id, "m2", "ff", -5, plain.world_SE3_agent, GRID, plain.features)
    read = Message.from_bytes(sent.to_bytes())
    assert (read.agent_id, read.agent_type, read.base_hash, read.timestamp_ns, read.grid) == (agent_id, "m2", "ff", -5, GRID)
    assert np.array_equal(read.world_SE3_agent, sent.world_SE3_agent)
    assert np.array_equal(read.features, sent.features)
    assert read.to_bytes() == sent.to_bytes()


def test_payload_is_a_view_of_the_received_bytes() -> None:
    received = np.frombuffer(make_message().to_bytes(), np.uint8)
    features = Message.from_bytes(received).features
    assert np.shares_memory(features, received)
    assert not features.flags.writeable


def test_layout_is_the_documented_one() -> None:
    data = make_message().to_bytes()
    assert data[:4] == b"HEAL"
    assert struct.unpack_from("<HHI", data, 4) == (FORMAT_VERSION, 1, 320)
    assert struct.unpack_from("<Qq", data, 16) == (2 * 4 * 8 * 4, 1_700_000_000_123_456_789)
    assert struct.unpack_from("<16d", data, 32)[3] == 5.0
    assert struct.unpack_from("<7d2d3I3H", data, 160) == (*GRID.range_m, 0.8, 0, 0, 2, 4, 8, 9, 2, 8)
    assert data[250 : 250 + 19] == b"vehicle-7m10123abcd"
    assert len(data) == 320 + 256


def test_any_cut_and_any_flipped_bit_is_noticed() -> None:
    data = make_message().to_bytes()
    for length in range(0, len(data), 7):
        with pytest.raises(MessageError):
            Message.from_bytes(data[:length])
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << (position % 8)
        with pytest.raises(MessageError):
            Message.from_bytes(damaged)
    with pytest.raises(MessageError, match="payload"):
        Message.from_bytes(reseal(bytearray(data + b"\0\0\0\0")))


def test_version_one_more_is_refused_by_number() -> None:
    data = bytearray(make_message().to_bytes())
    data[4:6] = struct.pack("<H", FORMAT_VERSION + 1)
    with pytest.raises(MessageError, match=rf"version {FORMAT_VERSION + 1}: this program reads version {FORMAT_VERSION}"):
        Message.from_bytes(reseal(data))


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [
        (6, struct.pack("<H", 9), "codec 9"),
        (8, struct.pack("<I", 1 << 20), "header claims"),
        (32, struct.pack("<d", float("nan")), "rigid"),
        (56, struct.pack("<d", float("inf")), "rigid"),
        (32, struct.pack("<d", 1e200), "rigid"),
        (160, struct.pack("<d", float("-inf")), "finite grid"),
        (208, struct.pack("<d", 0.0), "range_m"),
        (216, struct.pack("<2d", float("nan"), 1.0), "coverage"),
        (216, struct.pack("<2d", 0.0, 1.0), "coverage"),
        (232, struct.pack("<3I", 4, 4, 4), "grid|shape"),
        (232, struct.pack("<3I", 0, 4, 8), "shape"),
        (232, struct.pack("<3I", 2**32 - 1, 2**32 - 1, 2**32 - 1), "shape"),
        (244, struct.pack("<H", 60000), "strings"),
        (244, struct.pack("<H", 0), "agent_id"),
        (250, b"\xff\xfe", "UTF-8"),
    ],
)
def test_sealed_nonsense_names_its_reason(offset: int, value: bytes, reason: str) -> None:
    data = bytearray(make_message().to_bytes())
    data[offset : offset + len(value)] = value
    with pytest.raises(MessageError, match=reason):
        Message.from_bytes(reseal(data))


@given(st.binary(max_size=700))
@settings(max_examples=200, deadline=None)
def test_random_bytes_never_raise_anything_else(data: bytes) -> None:
    with pytest.raises(MessageError):
        Message.from_bytes(data)


@given(st.lists(st.tuples(st.integers(4, 511), st.integers(0, 255)), max_size=12), st.booleans())
@settings(max_examples=300, deadline=None)
def test_mutated_messages_parse_or_raise_message_error(changes: list[tuple[int, int]], sealed: bool) -> None:
    data = bytearray(make_message().to_bytes())
    for position, value in changes:
        data[position] = value
    try:
        Message.from_bytes(reseal(data) if sealed else bytes(data))
    except MessageError as error:
        assert str(error)


@pytest.mark.parametrize("shape", [(2, 4, 7), (4, 8), (2, 8, 4)])
def test_map_must_fill_the_grid(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Message\.features"):
        Message("a", "m1", "h", 0, np.eye(4), GRID, np.zeros(shape, np.float32))
