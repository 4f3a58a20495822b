"""Messages: exact round trip, the documented layout, and a clear error for every other byte string."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from heal.message.codec import FLOAT32, Codec
from heal.message.items import ITEM_NUMBERS
from heal.message.message import FORMAT_VERSION, Message, MessageError
from heal.types import MAP_SPLITS, Split
from tests.heal.message.messages import CODECS, GRID, SPLITS, make_message, reseal
from tests.heal.message.test_items import message as item_message


@given(
    seed=st.integers(0, 2**31), channels=st.integers(1, 4), agent_id=st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
)
@settings(max_examples=30, deadline=None)
def test_round_trip_is_exact(seed: int, channels: int, agent_id: str) -> None:
    sent = replace(make_message(seed, channels), agent_id=agent_id, timestamp_ns=-5, coverage=(1.5, 2.0))
    read = Message.from_bytes(sent.to_bytes())
    assert (read.agent_id, read.agent_type, read.base_hash, read.timestamp_ns, read.grid) == (agent_id, "m1", "0123abcd", -5, GRID)
    assert (read.coverage, read.split, read.scores) == ((1.5, 2.0), "feature", ())
    assert np.array_equal(read.world_SE3_agent, sent.world_SE3_agent)
    assert np.array_equal(read.maps[0], sent.maps[0])
    assert read.to_bytes() == sent.to_bytes()


@pytest.mark.parametrize("split", SPLITS)
def test_plain_float32_is_a_view_of_the_received_bytes(split: Split) -> None:
    received = np.frombuffer(make_message(split=split).to_bytes(), np.uint8)
    read = Message.from_bytes(received)
    for array in (*read.maps, *read.scores):
        assert np.shares_memory(array, received)
        assert not array.flags.writeable
        assert (array.__array_interface__["data"][0] - received.__array_interface__["data"][0]) % 64 == 0


def test_layout_is_the_documented_one() -> None:
    data = make_message().to_bytes()
    assert data[:4] == b"HEAL"
    assert struct.unpack_from("<HBBI", data, 4) == (FORMAT_VERSION, 1, 1, 320)
    assert struct.unpack_from("<Qq", data, 16) == (2 * 4 * 8 * 4, 1_700_000_000_123_456_789)
    assert struct.unpack_from("<16d", data, 32)[3] == 5.0
    assert struct.unpack_from("<7d2d", data, 160) == (*GRID.range_m, 0.8, 0, 0)
    assert struct.unpack_from("<QBB3H3I", data, 232) == (256, 0, 1, 9, 2, 8, 2, 4, 8)
    assert data[260 : 260 + 19] == b"vehicle-7m10123abcd"
    assert len(data) == 320 + 256


def test_a_receiver_written_from_the_page_reads_the_same() -> None:
    """Read a message step by step as docs/message.md says, without this project's reader: int4, chosen cells, zstd, pyramid."""
    sent = make_message(5, 3, "pyramid")
    codec = Codec("int4", min_score=0.05, zstd=True)
    data = sent.to_bytes(codec)
    split, values, header_bytes, checksum = struct.unpack_from("<BBII", data, 6)
    assert (split, values, checksum) == (2, 4, zlib.crc32(data[:12] + data[16:]))
    content_bytes, flags, count = struct.unpack_from("<QBB", data, 232)
    assert flags == 0b11
    content = zstandard.ZstdDecompressor().decompress(data[header_bytes:])
    assert len(content) == content_bytes
    read, at = Message.from_bytes(data), 0
    for i in range(count):
        channels, ny, nx = struct.unpack_from("<3I", data, 248 + 12 * i)
        cells = [cell for cell in range(ny * nx) if content[at + cell // 8] >> cell % 8 & 1]
        at += (ny * nx + 7) // 8
        steps = [content[at + k // 2] >> 4 * (k % 2) & 15 for k in range(len(cells))]
        at += (len(cells) + 1) // 2
        lows = struct.unpack_from(f"<{channels}f", content, at)
        (step,) = struct.unpack_from("<f", content, at + 4 * channels)
        at += 4 * channels + 4
        counts = [content[at + k // 2] >> 4 * (k % 2) & 15 for k in range(channels * len(cells))]
        at += (channels * len(cells) + 1) // 2
        features, scores = np.zeros((channels, ny * nx)), np.zeros(ny * nx)
        for k, cell in enumerate(cells):
            scores[cell] = (steps[k] - 1) / 14 + 1e-4
            features[:, cell] = [lows[c] + step * counts[c * len(cells) + k] for c in range(channels)]
        assert cells
        assert np.allclose(read.scores[i].reshape(-1), scores, atol=1e-6)
        assert np.allclose(read.maps[i].reshape(channels, -1), features, atol=1e-5)
    assert at == len(content)


@given(codec=CODECS)
@settings(max_examples=30, deadline=None)
def test_covered_blocks_arrive_under_every_codec(codec: Codec) -> None:
    covered = np.array([[True, False]])  # the grid has 4 x 8 cells
    sent = replace(make_message(), covered=covered, scores=(np.full((4, 8), 0.5, np.float32),))
    data = sent.to_bytes(codec)
    read = Message.from_bytes(data)
    assert read.covered is not None and np.array_equal(read.covered, covered)
    assert data[240] & 4
    if codec == FLOAT32:
        assert data[-1] == 0b01 and len(data) == 320 + 256 + 1
    assert Message.from_bytes(replace(sent, covered=None).to_bytes(codec)).covered is None


@pytest.mark.parametrize("split", MAP_SPLITS)
@given(codec=CODECS)
@settings(max_examples=30, deadline=None)
def test_free_cells_arrive_under_every_codec_behind_the_covered_blocks(split: Split, codec: Codec) -> None:
    free = np.arange(32).reshape(4, 8) % 3 == 0
    covered = np.array([[True, False]]) if split == "feature" else None
    sent = replace(make_message(split=split), free=free, covered=covered)
    sent = replace(sent, scores=sent.scores or (np.full((4, 8), 0.5, np.float32),))
    data = sent.to_bytes(codec)
    read = Message.from_bytes(data)
    assert read.free is not None and np.array_equal(read.free, free)
    assert (read.covered is None) == (split == "pyramid") and data[240] & 16
    without = replace(sent, free=None).to_bytes(codec)
    assert Message.from_bytes(without).free is None and not without[240] & 16
    if codec == FLOAT32:
        assert data[-4:] == bytes([0b01001001, 0b10010010, 0b00100100, 0b01001001]) and len(data) == len(without) + 4
    with pytest.raises(MessageError, match="payload"):
        Message.from_bytes(reseal(bytearray(data[:-1])))


def test_only_maps_have_free_cells_of_their_own_shape() -> None:
    with pytest.raises(ValueError, match=r"Message.free: expected an array of shape \(4, 8\)"):
        replace(make_message(), free=np.ones((2, 2), np.bool_))
    for split in ITEM_NUMBERS:
        with pytest.raises(ValueError, match="only maps have free cells"):
            replace(item_message(split), free=np.ones((1, 1), np.bool_))
        data = bytearray(item_message(split).to_bytes())
        data[240] |= 16
        with pytest.raises(MessageError, match="flags"):
            Message.from_bytes(reseal(data))


def test_the_pyramid_split_has_no_covered_blocks() -> None:
    with pytest.raises(ValueError, match="feature maps alone have covered blocks"):
        replace(make_message(split="pyramid"), covered=np.ones((1, 2), np.bool_))
    with pytest.raises(ValueError, match=r"Message.covered: expected an array of shape \(1, 2\)"):
        replace(make_message(), covered=np.ones((2, 2), np.bool_))
    data = bytearray(make_message(split="pyramid").to_bytes())
    data[240] |= 4
    with pytest.raises(MessageError, match="flags"):
        Message.from_bytes(reseal(data))


@pytest.mark.parametrize("codec", ["float32", "int4,score:0.1,zstd"])
@pytest.mark.parametrize("split", SPLITS)
def test_any_cut_and_any_flipped_bit_is_noticed(split: Split, codec: str) -> None:
    data = make_message(split=split).to_bytes(Codec.parse(codec))
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


@pytest.mark.parametrize("version", [FORMAT_VERSION - 1, FORMAT_VERSION + 1])
def test_another_version_is_refused_by_number(version: int) -> None:
    data = bytearray(make_message().to_bytes())
    data[4:6] = struct.pack("<H", version)
    with pytest.raises(MessageError, match=rf"version {version}: this program reads version {FORMAT_VERSION}"):
        Message.from_bytes(reseal(data))


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [
        (6, b"\x05", "split 5"),
        (6, b"\x00", "split 0"),
        (7, b"\x09", "values 9"),
        (8, struct.pack("<I", 1 << 20), "header claims"),
        (32, struct.pack("<d", float("nan")), "rigid"),
        (56, struct.pack("<d", float("inf")), "rigid"),
        (32, struct.pack("<d", 1e200), "rigid"),
        (160, struct.pack("<d", float("-inf")), "finite grid"),
        (160, struct.pack("<6d", -1e308, -1e308, 0, 1e308, 1e308, 1), "agent"),
        (208, struct.pack("<d", 0.0), "range_m"),
        (216, struct.pack("<2d", float("nan"), 1.0), "coverage"),
        (216, struct.pack("<2d", 0.0, 1.0), "coverage"),
        (232, struct.pack("<Q", 1 << 60), "too many"),
        (232, struct.pack("<Q", 255), "255 bytes"),
        (240, b"\x01", "payload"),
        (240, b"\x02", "zstd"),
        (240, b"\x20", "flags"),
        (240, b"\x10", "payload"),
        (240, b"\x04", "payload"),
        (241, b"\x00", "1 to 8 maps"),
        (241, b"\x09", "1 to 8 maps"),
        (241, b"\x02", "shapes"),
        (242, struct.pack("<H", 60000), "strings"),
        (242, struct.pack("<H", 0), "agent_id"),
        (248, struct.pack("<3I", 4, 4, 4), "grid|expected an array"),
        (248, struct.pack("<3I", 0, 4, 8), "shapes"),
        (248, struct.pack("<3I", 2**32 - 1, 2**32 - 1, 2**32 - 1), "shapes"),
        (260, b"\xff\xfe", "UTF-8"),
    ],
)
def test_sealed_nonsense_names_its_reason(offset: int, value: bytes, reason: str) -> None:
    data = bytearray(make_message().to_bytes())
    data[offset : offset + len(value)] = value
    with pytest.raises(MessageError, match=reason):
        Message.from_bytes(reseal(data))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1.0])
@pytest.mark.parametrize("values", ["int8", "int4"])
def test_ranges_that_are_not_finite_are_refused(values: str, number: float) -> None:
    data = bytearray(make_message().to_bytes(Codec.parse(values)))
    data[328:332] = struct.pack("<f", number)  # the first step, after the two channels' least features
    with pytest.raises(MessageError, match="range"):
        Message.from_bytes(reseal(data))


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -0.1, 1.01])
def test_scores_out_of_range_are_refused(score: float) -> None:
    sent = make_message(split="pyramid")
    data = bytearray(sent.to_bytes())
    data[-64:-60] = struct.pack("<f", score)  # the last scale's 2 x 4 scores are filled up to 64 bytes
    with pytest.raises(MessageError, match=r"scores\[1\]"):
        Message.from_bytes(reseal(data))
    with pytest.raises(ValueError, match=r"scores\[0\]"):
        replace(sent, scores=(np.full_like(sent.scores[0], score), sent.scores[1]))


@pytest.mark.parametrize("codec", ["int8", "int4,zstd", "float16", "float32,zstd"])
def test_infinities_are_sent_or_refused_without_another_error(codec: str) -> None:
    sent = make_message()
    sent.maps[0][0, 0, :2] = (np.inf, np.nan)
    data = sent.to_bytes(Codec.parse(codec))
    if codec.startswith("int"):
        with pytest.raises(MessageError, match="range"):
            Message.from_bytes(data)
    else:
        assert np.isnan(Message.from_bytes(data).maps[0]).any()


@given(st.binary(max_size=700))
@settings(max_examples=200, deadline=None)
def test_random_bytes_never_raise_anything_else(data: bytes) -> None:
    with pytest.raises(MessageError):
        Message.from_bytes(data)


@given(st.sampled_from(SPLITS), CODECS, st.lists(st.tuples(st.integers(4, 600), st.integers(0, 255)), max_size=12), st.booleans())
@settings(max_examples=500, deadline=None)
def test_mutated_messages_parse_or_raise_message_error(
    split: Split, codec: Codec, changes: list[tuple[int, int]], sealed: bool
) -> None:
    data = bytearray(make_message(split=split).to_bytes(codec))
    for position, value in changes:
        data[position % len(data)] = value
    try:
        Message.from_bytes(reseal(data) if sealed else bytes(data))
    except MessageError as error:
        assert str(error)


def _with_payload(
    split: Split, shape: tuple[int, int, int], payload: bytes, content_bytes: int, *, values: int = 3, flags: int = 2
) -> bytes:
    """Make a sealed message, by default int8 and zstd, that claims one map of `shape`, with the given payload."""
    header = (
        bytearray(make_message(split=split).to_bytes()[:320]) if split == "feature" else bytearray(_one_scale().to_bytes()[:320])
    )
    header[7] = values
    header[16:24] = struct.pack("<Q", len(payload))
    header[232:241] = struct.pack("<QB", content_bytes, flags)
    header[248:260] = struct.pack("<3I", *shape)
    return reseal(header + bytearray(payload))


def _one_scale() -> Message:
    sent = make_message(split="pyramid")
    return replace(sent, maps=sent.maps[:1], scores=sent.scores[:1])


def test_a_decompression_bomb_allocates_almost_nothing() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(1 << 28))
    assert len(bomb) < 30_000
    honest = Message.from_bytes(_with_payload("feature", (2, 4, 8), zstandard.compress(bytes(8 + 8 + 64)), 80))
    assert not honest.maps[0].any()
    for content_bytes in (80, 1 << 28):
        tracemalloc.start()
        with pytest.raises(MessageError, match=r"claims to hold|too many"):
            Message.from_bytes(_with_payload("feature", (2, 4, 8), bomb, content_bytes))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1 << 20


@pytest.mark.parametrize(
    "payload",
    [
        zstandard.compress(bytes(80)) + b"more",
        zstandard.compress(bytes(79)),
        zstandard.compress(bytes(80))[:-3],
        zstandard.ZstdCompressor(write_content_size=False).compress(bytes(80)),
        b"\x50\x2a\x4d\x18" + struct.pack("<I", 80) + bytes(80),  # a skippable frame
        b"",
        bytes(80),
    ],
)
def test_a_payload_that_is_no_zstd_frame_of_its_size_is_refused(payload: bytes) -> None:
    with pytest.raises(MessageError, match=r"zstd frame|payload"):
        Message.from_bytes(_with_payload("feature", (2, 4, 8), payload, 80))


def test_shapes_beyond_the_cap_are_refused_before_anything_is_allocated() -> None:
    tracemalloc.start()
    with pytest.raises(MessageError, match="at most 16777216 numbers"):
        Message.from_bytes(_with_payload("pyramid", (64, 1024, 1024), b"", 0))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("shape", [(2, 4, 7), (4, 8), (2, 8, 4), (0, 4, 8)])
def test_a_feature_map_must_fill_the_grid(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Message\.maps"):
        Message("a", "m1", "h", 0, np.eye(4), GRID, (np.zeros(shape, np.float32),))


def test_maps_and_scores_must_belong_together() -> None:
    sent = make_message(split="pyramid")
    for changes in (
        {"scores": ()},
        {"scores": sent.scores[:1]},
        {"scores": sent.scores[::-1]},
        {"split": "feature"},
        {"maps": ()},
        {"maps": 9 * sent.maps[:1], "scores": 9 * sent.scores[:1]},
        {"maps": tuple(level.astype(np.float64) for level in sent.maps)},
        {"split": "late"},
    ):
        with pytest.raises(ValueError, match=r"Message\.(scores|maps|split)"):
            replace(sent, **changes)  # type: ignore[arg-type]


def test_the_default_codec_is_float32() -> None:
    assert make_message().to_bytes() == make_message().to_bytes(FLOAT32)


@pytest.mark.parametrize("shape", [(1, 4096, 4096), (1, 1, 1 << 21), (8, 1 << 11, 1 << 10)])
def test_more_cells_than_a_grid_has_are_refused_before_anything_is_allocated(shape: tuple[int, int, int]) -> None:
    """A bitmap of zeros compresses to almost nothing, but scores and masks of so many cells would take hundreds of megabytes."""
    bits = shape[1] * shape[2] // 8
    payload = zstandard.compress(bytes(bits))
    tracemalloc.start()
    with pytest.raises(MessageError, match="at most 1048576 cells or items"):
        Message.from_bytes(_with_payload("pyramid", shape, payload, bits))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(payload) < 1000 and peak < 1 << 20


def test_the_largest_map_is_decoded_in_less_than_200_mb() -> None:
    """The worst case: all cells of a map of 2^24 numbers, as float16 in a bitmap's order, in a message of some kilobytes."""
    shape = (16, 1024, 1024)
    mask, numbers = bytes([255]) * (1 << 17), bytes(2 * (1 << 20) + 2 * (1 << 24))
    payload = zstandard.compress(mask + numbers)
    data = _with_payload("pyramid", shape, payload, len(mask) + len(numbers), values=2, flags=3)
    del numbers
    tracemalloc.start()
    message = Message.from_bytes(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(data) < 10_000 and message.maps[0].shape == shape and peak < 200 << 20
