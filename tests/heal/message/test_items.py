"""Boxes and points as messages: any number of items, none included, as floats, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heal.message.codec import Codec
from heal.message.items import ITEM_NUMBERS
from heal.message.message import Message, MessageError
from heal.types import Float32, Split
from tests.heal.message.messages import make_message, reseal

ITEM_SPLITS: tuple[Split, ...] = ("boxes", "points")
FLOAT_CODECS = ("float32", "float32,zstd", "float16", "float16,zstd")


def items(split: Split, count: int, seed: int = 0) -> Float32:
    """Random items (numbers, 1, count) as far away as a map reaches; of boxes the last number is a score."""
    rng = np.random.default_rng(seed)
    numbers = rng.uniform(-100, 100, (ITEM_NUMBERS[split][0], 1, count)).astype(np.float32)
    numbers[3:] = rng.uniform(0, 1, numbers[3:].shape)
    return numbers


def message(split: Split, count: int = 5, seed: int = 0) -> Message:
    return replace(make_message(), maps=(items(split, count, seed),), scores=(), split=split)


@given(st.sampled_from(ITEM_SPLITS), st.sampled_from(FLOAT_CODECS), st.integers(0, 40), st.integers(0, 2**31))
def test_any_number_of_items_is_read_as_it_was_sent(split: Split, codec: str, count: int, seed: int) -> None:
    sent = message(split, count, seed)
    read = Message.from_bytes(sent.to_bytes(Codec.parse(codec)))
    assert read.split == split and read.maps[0].shape == (ITEM_NUMBERS[split][0], 1, count) and read.scores == ()
    if codec.startswith("float32"):
        np.testing.assert_array_equal(read.maps[0], sent.maps[0])
    else:
        np.testing.assert_allclose(read.maps[0], sent.maps[0], atol=1 / 32)  # half of float16's step between 64 and 128


def test_a_box_takes_32_bytes_and_a_point_16() -> None:
    for split, size in (("boxes", 32), ("points", 16)):
        none, some = (len(message(split, count).to_bytes(Codec("float32"))) for count in (0, 64))  # type: ignore[arg-type]
        assert some - none == 64 * size and none == 320


@pytest.mark.parametrize("codec", ["int8", "int4", "int8,zstd", "float32,score:0.3", "float16,budget:2000"])
@pytest.mark.parametrize("split", ITEM_SPLITS)
def test_other_codecs_write_no_items(split: Split, codec: str) -> None:
    with pytest.raises(ValueError, match=f"{split}: expected all items, as float32 or float16"):
        message(split).to_bytes(Codec.parse(codec))


@pytest.mark.parametrize(
    ("row", "value", "reason"),
    [(3, -1.0, "edges"), (5, -0.1, "edges"), (7, 1.5, "scores"), (7, -0.5, "scores"), (0, 3e38, "within 10000 m")],
)
def test_boxes_that_cannot_be_are_refused(row: int, value: float, reason: str) -> None:
    wrong = items("boxes", 5)
    wrong[row, 0, 2] = value
    data = bytearray(message("boxes").to_bytes())
    data[-wrong.nbytes - (-wrong.nbytes) % 64 :] = wrong.tobytes().ljust(192, b"\0")
    with pytest.raises(MessageError, match=f"{reason}.*got 1 others"):
        Message.from_bytes(reseal(data))


@pytest.mark.parametrize("codec", FLOAT_CODECS)
def test_boxes_may_have_a_class_each(codec: str) -> None:
    classed = np.concatenate([items("boxes", 5), np.array([[[0, 2, 1, 255, 2]]], np.float32)])
    sent = replace(message("boxes"), maps=(classed,))
    read = Message.from_bytes(sent.to_bytes(Codec.parse(codec)))
    assert read.maps[0].shape == (9, 1, 5) and read.maps[0][8, 0].tolist() == [0, 2, 1, 255, 2]
    for wrong in (-1.0, 0.5, 256.0, np.inf):
        classed[8, 0, 3] = wrong
        with pytest.raises(ValueError, match="classes from 0 to 255, got 1 others"):
            replace(sent, maps=(classed,))


@pytest.mark.parametrize(("row", "value"), [(0, 1.1e4), (2, -3e38), (1, np.inf), (3, -0.1), (3, 1.1)])
def test_points_that_no_lidar_has_are_refused(row: int, value: float) -> None:
    wrong = items("points", 5)
    wrong[row, 0, 2] = value
    with pytest.raises(ValueError, match="points within 10000 m with intensities from 0 to 1, got 1 others"):
        replace(message("points"), maps=(wrong,))


@pytest.mark.parametrize("numbers", [7, 4, 0])
def test_lists_of_other_numbers_are_refused(numbers: int) -> None:
    with pytest.raises(ValueError, match=r"Message\.maps"):
        replace(message("boxes"), maps=(np.zeros((numbers, 1, 5), np.float32),))
    data = bytearray(message("boxes").to_bytes())
    data[248] = numbers
    with pytest.raises(MessageError, match=r"expected one list \(8 or 9, 1, any\)|expected a payload|payload"):
        Message.from_bytes(reseal(data))


@pytest.mark.parametrize(("offset", "value"), [(7, 3), (240, 1), (240, 4), (240, 8)])
def test_codes_and_flags_that_items_do_not_have_are_refused(offset: int, value: int) -> None:
    data = bytearray(message("points").to_bytes())
    data[offset] = value
    with pytest.raises(MessageError, match=r"points: expected all items|unknown flags|payload"):
        Message.from_bytes(reseal(data))


@given(
    st.sampled_from(ITEM_SPLITS),
    st.sampled_from(FLOAT_CODECS),
    st.lists(st.tuples(st.integers(4, 600), st.integers(0, 255)), max_size=12),
    st.booleans(),
)
def test_any_bytes_are_read_or_refused(split: Split, codec: str, changes: list[tuple[int, int]], sealed: bool) -> None:
    data = bytearray(message(split).to_bytes(Codec.parse(codec)))
    for position, value in changes:
        data[position % len(data)] = value
    try:
        Message.from_bytes(reseal(data) if sealed else bytes(data))
    except MessageError as error:
        assert str(error)
