"""Codecs: the options that they are read from, and their effect on feature maps: exact or within a bound, within the budget."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heal.message.codec import FLOAT32, VALUES, Codec, Values
from heal.message.message import Message
from heal.types import Split
from tests.heal.message.messages import CODECS, SPLITS, make_message

SEEDS = st.integers(0, 2**31)


@given(CODECS)
def test_options_round_trip(codec: Codec) -> None:
    assert Codec.parse(str(codec)) == codec


def test_options_are_the_documented_ones() -> None:
    assert Codec.parse("float32") == FLOAT32
    assert Codec.parse("int8,score:0.1,zstd") == Codec("int8", min_score=0.1, zstd=True)
    assert Codec.parse(" float16 , budget:84000 , zstd ") == Codec("float16", budget_bytes=84000, zstd=True)
    assert str(Codec("int4", 0.25, 900, True)) == "int4,score:0.25,budget:900,zstd"
    assert str(FLOAT32) == "float32"


@pytest.mark.parametrize(
    "text",
    [
        *("", "int9", "int8 zstd", "int8,", "int8,best:3", "int8,zstd:3", "int8,zstd,zstd", "int8,score", "int8,int8"),
        *("int8,budget:1,budget:2"),
    ],
)
def test_unknown_options_are_answered_with_the_possible_ones(text: str) -> None:
    with pytest.raises(ValueError, match=r"codec '.*is not one of float32, float16, int8, int4, zstd, score:.*, budget:"):
        Codec.parse(text)


@pytest.mark.parametrize("text", ["zstd", "zstd,int8", "score:0.1,int8", "score:0.1:int8", "int8,float16"])
def test_the_format_of_values_comes_first_and_only_once(text: str) -> None:
    with pytest.raises(ValueError, match=rf"codec '{text}': the format of values comes first .*float32, float16, int8 or int4"):
        Codec.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("int8,score:2", "expected 0 to 1, got 2.0; .*score:S .*budget:BYTES .*zstd"),
        ("int8,score:nan", "expected a finite number after score:, got 'nan'"),
        ("int8,budget:0", "expected at least 1.*, got 0; .*score:S .*budget:BYTES .*zstd"),
        ("int8,budget:many", "expected a whole number after budget:, got 'many'"),
        ("int8,budget:1.5", "expected a whole number after budget:, got '1.5'"),
    ],
)
def test_values_that_are_out_of_range_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"codec '{text}': .*{message}"):
        Codec.parse(text)


@pytest.mark.parametrize("wrong", [{"values": "int9"}, {"min_score": -0.1}, {"min_score": float("nan")}, {"budget_bytes": 0}])
def test_a_codec_with_a_value_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"Codec.{next(iter(wrong))}: expected"):
        Codec(**wrong)  # type: ignore[arg-type]


@given(SEEDS, st.integers(1, 4), st.sampled_from(SPLITS), CODECS)
@settings(max_examples=150, deadline=None)
def test_every_codec_keeps_everything_but_the_numbers(seed: int, channels: int, split: Split, codec: Codec) -> None:
    sent = make_message(seed, channels, split)
    data = sent.to_bytes(codec)
    read = Message.from_bytes(data)
    assert [level.shape for level in read.maps] == [level.shape for level in sent.maps]
    assert all(level.dtype == np.float32 and np.isfinite(level).all() for level in (*read.maps, *read.scores))
    assert (read.agent_id, read.timestamp_ns, read.grid, read.split) == (sent.agent_id, sent.timestamp_ns, sent.grid, split)
    assert len(read.scores) == (0 if split == "feature" else len(sent.maps))
    assert sent.to_bytes(codec) == data


@given(SEEDS, st.sampled_from(SPLITS), st.booleans())
@settings(max_examples=40, deadline=None)
def test_float32_is_exact(seed: int, split: Split, zstd: bool) -> None:
    sent = make_message(seed, 3, split)
    read = Message.from_bytes(sent.to_bytes(Codec(zstd=zstd)))
    for before, after in zip(sent.maps + (sent.scores if split == "pyramid" else ()), read.maps + read.scores, strict=True):
        assert before.tobytes() == after.tobytes()


@given(SEEDS, st.sampled_from(SPLITS), st.sampled_from(VALUES), st.booleans(), st.floats(1e-3, 1e3))
@settings(max_examples=80, deadline=None)
def test_errors_stay_within_half_a_step(seed: int, split: Split, values: Values, zstd: bool, scale: float) -> None:
    sent = make_message(seed, 3, split, scale)
    read = Message.from_bytes(sent.to_bytes(Codec(values, zstd=zstd)))
    for before, after in zip(sent.maps, read.maps, strict=True):
        widths = (before.max((1, 2)) - before.min((1, 2)))[:, None, None]
        bound = {
            "float32": 0 * before,
            "float16": before / 2048 + 2.0**-25,
            "int8": 0 * before + widths / 510,
            "int4": 0 * before + widths.max() / 30,
        }[values]
        assert (np.abs(after - before) <= bound * 1.001 + 1e-6 * scale * (values != "float32")).all()
    score_bound = {"float32": 0.0, "float16": 2.0**-11, "int8": 0.5 / 254, "int4": 0.5 / 14}[values]
    for before, after in zip(sent.scores, read.scores, strict=False):
        assert (np.abs(after - before) <= score_bound + 1e-6).all()
        assert (after > 0).all()


def test_scores_of_zero_stay_zero_and_no_other_score_becomes_zero() -> None:
    sent = make_message(split="pyramid")
    scores = (np.zeros_like(sent.scores[0]), np.full_like(sent.scores[1], 1e-7))
    scores[0][0, :3] = (1.0001, 1e-4, 0.5)
    for values in VALUES:
        read = Message.from_bytes(replace(sent, scores=scores).to_bytes(Codec(values)))
        assert np.array_equal(read.scores[0] > 0, scores[0] > 0)
        assert (read.scores[1] > 0).all()
        assert read.scores[0][0, :3] == pytest.approx([1.0001, 1e-4, 0.5], abs=0.04 if values == "int4" else 0.003)


@given(SEEDS, st.sampled_from(VALUES), st.booleans())
@settings(max_examples=40, deadline=None)
def test_min_score_sends_exactly_the_cells_that_reach_it(seed: int, values: Values, zstd: bool) -> None:
    sent = make_message(seed, 3, "pyramid")
    read = Message.from_bytes(sent.to_bytes(Codec(values, min_score=0.2, zstd=zstd)))
    for before, after, wanted, found in zip(sent.maps, read.maps, sent.scores, read.scores, strict=True):
        chosen = wanted >= 0.2
        assert np.array_equal(found > 0, chosen)
        assert not after[:, ~chosen].any()
        if values == "float32":
            assert np.array_equal(after[:, chosen], before[:, chosen])


def test_the_feature_split_fills_unsent_cells_with_the_median() -> None:
    sent = make_message(3, 3)
    chosen = sent.scores[0] >= 0.2
    read = Message.from_bytes(sent.to_bytes(Codec(min_score=0.2))).maps[0]
    assert np.array_equal(read[:, chosen], sent.maps[0][:, chosen])
    median = np.median(sent.maps[0], (1, 2))[:, None]
    assert np.array_equal(read[:, ~chosen], np.broadcast_to(median, (3, (~chosen).sum())))
    with pytest.raises(ValueError, match=r"expected Message\.scores"):
        replace(sent, scores=()).to_bytes(Codec(min_score=0.2))


@given(SEEDS, st.sampled_from(SPLITS), CODECS, st.integers(1, 4000))
@settings(max_examples=150, deadline=None)
def test_a_budget_is_kept_where_an_empty_message_fits(seed: int, split: Split, codec: Codec, budget: int) -> None:
    sent = make_message(seed, 4, split)
    data = sent.to_bytes(replace(codec, budget_bytes=budget))
    smallest = sent.to_bytes(replace(codec, min_score=0.0, budget_bytes=1))
    assert len(data) <= max(budget, len(smallest))
    if split == "pyramid":
        assert not any(scores.any() for scores in Message.from_bytes(smallest).scores)


def test_a_budget_is_spent_on_the_best_cells() -> None:
    sent = make_message(1, 16, "pyramid")
    whole = len(sent.to_bytes(Codec(min_score=1e-9)))
    smallest = len(sent.to_bytes(Codec(budget_bytes=1)))
    budget = (whole + smallest) // 2
    data = sent.to_bytes(Codec(budget_bytes=budget))
    # Not one more cell would have fitted: a cell takes 4 (32 + 1) bytes at most.
    assert budget - len(data) <= max(132, 0.01 * budget)
    for scores, found in zip(sent.scores, Message.from_bytes(data).scores, strict=True):
        # Of two cells of one scale the better one is sent, up to the tenth of its score that a neighbour can add.
        assert scores[found > 0].min() >= 0.9 * scores[found == 0].max() - 0.1
    assert Message.from_bytes(sent.to_bytes(Codec(budget_bytes=whole))).scores[0].all()


def test_more_budget_never_sends_fewer_cells() -> None:
    sent = make_message(2, 8, "pyramid")
    counts = []
    for budget in range(400, 4000, 150):
        read = Message.from_bytes(sent.to_bytes(Codec("float16", budget_bytes=budget)))
        counts.append(sum(int((scores > 0).sum()) for scores in read.scores))
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_zstd_saves_on_maps_that_repeat() -> None:
    sent = make_message(0, 4)
    even = replace(sent, maps=(np.ones_like(sent.maps[0]),))
    assert len(even.to_bytes(Codec(zstd=True))) < len(even.to_bytes()) - 300
