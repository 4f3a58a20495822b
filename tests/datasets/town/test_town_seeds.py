"""The random streams of a town: no two purposes draw the same numbers."""

from dataclasses import replace

import numpy as np
import pytest

from heal.datasets.town import TownSource, town_preset
from heal.datasets.town.seeds import SPLITS, Stream, random_stream


def test_the_keys_of_a_town_stay_distinct_when_padded_with_zeros(monkeypatch):
    """NumPy pads short keys with zeros: (LAYOUT,) and (LAYOUT, 0) would draw the same numbers."""
    keys = []

    def record(split, seed, *key):
        keys.append(tuple(int(number) for number in key))
        return random_stream(split, seed, *key)

    for module in ("town", "source"):
        monkeypatch.setattr(f"heal.datasets.town.{module}.random_stream", record)
    source = TownSource(replace(town_preset("test"), moving=(12, 14), walkers=(8, 10)), seed=1, ticks=2)
    for index in range(2):
        for agent_id in source.outline(index).agent_ids:
            source.sweep(index, agent_id)
            source.pictures(index, agent_id)
    assert {key[0] for key in keys} == set(Stream)
    length = max(len(key) for key in keys)
    padded = {key + (0,) * (length - len(key)) for key in keys}
    assert len(padded) == len(keys) > 30, "two purposes share their random numbers"


def test_the_numbers_of_the_streams_never_change():
    """A published town is drawn with these numbers."""
    names = ["LAYOUT", "FURNITURE", "PARKED", "TRAFFIC", "PATH", "SENSORS", "NOISE", "WEATHER", "DROPS", "WALKERS"]
    assert {stream.name: stream.value for stream in Stream} == {name: number for number, name in enumerate(names, start=1)}
    assert SPLITS == ("train", "validate", "test")


def test_a_stream_depends_on_every_number_of_its_key():
    def first(split, seed, *key):
        return random_stream(split, seed, *key).random()

    drawn = [first("train", 1, 5, 2, 3), first("test", 1, 5, 2, 3), first("train", 2, 5, 2, 3), first("train", 1, 6, 2, 3)]
    drawn += [first("train", 1, 5, 3, 3), first("train", 1, 5, 2, 4)]
    assert len(set(drawn)) == len(drawn) and drawn[0] == first("train", 1, 5, 2, 3)
    assert first("train", 1, Stream.LAYOUT) == np.random.default_rng([0, 1, 1, 0]).random()


@pytest.mark.parametrize(("split", "seed", "message"), [("val", 0, "train, validate, test"), ("train", -1, "0 or more, got -1")])
def test_unknown_splits_and_negative_seeds_are_refused(split, seed, message):
    with pytest.raises(ValueError, match=message):
        random_stream(split, seed)
