"""Differences of AP and their intervals: equal to the plain computation over drawn scenes, paired, and refused for other scenes."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from heal.detection.metrics import IOU_THRESHOLDS, FrameMatch, average_precision
from heal.errors import UserError
from heal.measures.matches import SceneMatches
from heal.measures.measure import Measure
from heal.measures.precision import resampled_precision
from heal.tools.shared.intervals import compare, comparison_table
from heal.tools.shared.scene_matches import read_scenes, write_scenes
from tests.heal.measures.made_matches import flagged, joined

SCENES = [f"town_{town}/{number:06d}" for town in range(10) for number in range(3)]


def random_frames(seed: int, found: float, scenes: int = len(SCENES)) -> list[FrameMatch]:
    """Return matches of scenes with 5 objects each, most of them found with this probability."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(scenes):
        scores = np.sort(rng.random(rng.integers(3, 9)))[::-1].astype(np.float32)
        hits = rng.random((len(IOU_THRESHOLDS), len(scores))) < found
        frames.append(flagged(scores, hits & (hits.cumsum(axis=1) <= 5), 5))
    return frames


def random_run(seed: int, found: float) -> SceneMatches:
    return joined(SCENES, random_frames(seed, found))


def shown(*comparisons: object) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(comparison_table(comparisons))  # type: ignore[arg-type]
    return " ".join(captured.get().split())


def test_a_draw_gives_the_ap_of_the_scenes_so_repeated() -> None:
    frames = random_frames(0, 0.6)
    counts = np.random.default_rng(1).multinomial(10, np.full(10, 0.1), 20)
    groups = np.arange(10).repeat(3)
    run = joined(SCENES, frames)
    found = [resampled_precision(run, Measure(threshold), groups, counts) for threshold in IOU_THRESHOLDS]
    for row, times in zip(np.stack(found, axis=1), counts[:, groups], strict=True):
        drawn = [frame for frame, count in zip(frames, times, strict=True) for _ in range(count)]
        assert row == pytest.approx(list(average_precision(drawn, IOU_THRESHOLDS).ap.values()), abs=1e-12)


def test_long_runs_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    run, counts = random_run(0, 0.6), np.random.default_rng(1).multinomial(10, np.full(10, 0.1), 20)
    whole = resampled_precision(run, Measure(), np.arange(10).repeat(3), counts)
    monkeypatch.setattr("heal.measures.precision._CELLS", 1000)
    np.testing.assert_array_equal(resampled_precision(run, Measure(), np.arange(10).repeat(3), counts), whole)


def test_the_interval_covers_the_difference_and_is_the_same_every_time() -> None:
    better, worse = random_run(0, 0.9), random_run(1, 0.5)
    one, again = (compare(("new", better), ("old", worse)) for _ in range(2))
    assert one == again and (one.scenes, one.groups) == (30, 10)
    expected = [
        average_precision(random_frames(0, 0.9), IOU_THRESHOLDS).ap[t]
        - average_precision(random_frames(1, 0.5), IOU_THRESHOLDS).ap[t]  # type: ignore[operator]
        for t in IOU_THRESHOLDS
    ]
    assert [interval.difference for interval in one.ap] == pytest.approx(expected)
    for interval in one.ap:
        assert interval.low is not None and interval.high is not None and interval.difference is not None
        assert 0 < interval.low < interval.difference < interval.high < 1
    back = compare(("old", worse), ("new", better))
    for forth, negated in zip(one.ap, back.ap, strict=True):
        assert negated.low == pytest.approx(-forth.high) and negated.high == pytest.approx(-forth.low)  # type: ignore[operator]


def test_the_bootstrap_is_paired_and_draws_towns() -> None:
    run = random_run(0, 0.6)
    assert all((i.difference, i.low, i.high) == (0, 0, 0) for i in compare(("a", run), ("b", run)).ap)
    # In every town a scene with a hit and one without: towns drawn whole always give the same AP, scenes drawn alone would not.
    hit, miss = flagged([0.5], np.ones((3, 1), np.bool_), 1), flagged([0.1], np.zeros((3, 1), np.bool_), 1)
    names = [f"town_{town}/{number}" for town in range(10) for number in range(2)]
    steady, none = joined(names, [hit, miss] * 10), joined(names, [miss, miss] * 10)
    for interval in compare(("steady", steady), ("none", none)).ap:
        assert interval.low == interval.high == pytest.approx(interval.difference)


def test_few_towns_are_named_and_one_gives_no_interval() -> None:
    run, other = random_run(0, 0.9), random_run(1, 0.5)
    assert "10 towns" in shown(compare(("a", run), ("b", other))) and "fewer than 8" not in shown(compare(("a", run), ("b", other)))

    def named(towns: int) -> tuple[SceneMatches, SceneMatches]:
        names = [f"town_{i % towns}/{i}" for i in range(30)]
        return joined(names, random_frames(0, 0.9)), joined(names, random_frames(1, 0.5))

    few = compare(*zip("ab", named(7), strict=True))
    assert few.groups == 7 and few.ap[0].low is not None and "fewer than 8" in shown(few)
    single = compare(*zip("ab", named(1), strict=True))
    assert single.ap[0].difference is not None and single.ap[0].low is None
    assert "no interval" in shown(single) and "[" not in str(single.ap[0])


def test_without_objects_there_is_no_difference() -> None:
    empty = joined(["a/0", "b/0"], [flagged([], np.zeros((3, 0), np.bool_), 0)] * 2)
    comparison = compare(("a", empty), ("b", empty))
    assert str(comparison.ap[0]) == "n/a" and comparison.record()["ap"]["0.5"] == {"difference": None, "low": None, "high": None}


def test_other_scenes_and_other_objects_are_refused_by_name() -> None:
    run, frames = random_run(0, 0.6), random_frames(0, 0.6)
    renamed = joined([*SCENES[:-1], "elsewhere/000000"], frames)
    with pytest.raises(UserError, match="1 only in runs/old, such as elsewhere/000000; 1 only in new, such as town_9/000002"):
        compare(("new", run), ("runs/old", renamed))
    more = [*frames[:-1], replace(frames[-1], objects=6)]
    with pytest.raises(UserError, match="scene town_9/000002 has 5 objects in the one and 6 in the other"):
        compare(("new", run), ("runs/old", joined(SCENES, more)))
    with pytest.raises(UserError, match="another order"):
        compare(("new", run), ("runs/old", joined(SCENES[::-1], frames)))


def test_matches_are_read_as_they_were_written(tmp_path: Path) -> None:
    runs = {"m1": random_run(0, 0.6), "m1 + m2, ego blind": random_run(1, 0.6), "none": SceneMatches.of([])}
    write_scenes(tmp_path / "scenes.npz", runs)
    read = read_scenes(tmp_path)
    assert list(read) == list(runs) and [path.name for path in tmp_path.iterdir()] == ["scenes.npz"]
    for name, run in runs.items():
        for part in fields(SceneMatches):
            np.testing.assert_array_equal(getattr(read[name], part.name), getattr(run, part.name))
    with pytest.raises(UserError, match=r"no such file; expected the folder of an earlier `heal evaluate`"):
        read_scenes(tmp_path / "other")
    for content in (b"", b"no archive", (tmp_path / "scenes.npz").read_bytes()[:300]):
        (tmp_path / "scenes.npz").write_bytes(content)
        with pytest.raises(UserError, match="not readable as matches"):
            read_scenes(tmp_path)
