"""The report of a comparison, from hand-made matches: means over seeds, clear differences, what is missing, figures."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from heal.errors import UserError
from heal.measures.matches import SceneMatches
from heal.tools.comparing.costs import FrameCosts, MethodCosts
from heal.tools.comparing.figures import figures_of
from heal.tools.comparing.joining import JoiningParameters
from heal.tools.comparing.page import Table, page_of, render
from heal.tools.comparing.results import Results, Run, summary, write_tables
from heal.tools.comparing.spec import CompareSpec, load_spec
from tests.tools.command import MADE_BY
from tests.tools.comparing.micro import micro, save_spec

EVIL = "<script>alert(1)</script>"
PARTS = {"m1": 1000, "m5": 20, "m6": 20}


def matches(found: int, of: int = 20, first: int = 0) -> SceneMatches:
    """Return scenes with one vehicle and one detection each, of which the first `found` ones find their vehicle.

    Every second ego is an m5; the vehicles of the first half are near, the others far away.
    """
    hits = np.where(np.arange(of) < found, 0, -1)
    levels, places = np.tile(hits, (3, 1)).astype(np.int32), np.where(np.arange(of) < of // 2, 10.0, 40.0).astype(np.float32)
    return SceneMatches(
        scene_ids=np.array([f"town/{first + i:03d}" for i in range(of)]),
        detections=np.ones(of, np.int64),
        objects=np.ones(of, np.int64),
        ego_types=np.array(["m1", "m5"] * (of // 2)),
        ego_sensors=np.array(["lidar"] * of),
        counted=np.zeros(of, np.bool_),
        scores=np.linspace(0.9, 0.1, of).astype(np.float32),
        found_bev=levels,
        found_3d=levels,
        distances_m=places,
        truth_distances_m=places,
        ego_points=np.full(of, -1, np.int64),
        other_points=np.full(of, -1, np.int64),
        thresholds=np.array([0.3, 0.5, 0.7]),
    )


def run(seed: int, found: int, size: int = 1000) -> Run:
    return Run(seed, matches(found), {"bytes_per_message": size})


@pytest.fixture
def spec(tmp_path: Path) -> CompareSpec:
    methods = {"pyramid": {"title": "Pyramid"}, "f_cooper": {"title": EVIL}, "alone": {"run": {"agents": 1}}}
    conditions = {"perfect": {"x": 0.0}, "noisy": {"noise": "position:0.4", "x": 0.4}}
    return load_spec(save_spec(tmp_path / "spec.yaml", micro(tmp_path, methods=methods, conditions=conditions)))


@pytest.fixture
def results(spec: CompareSpec) -> Results:
    """Return results in which F-Cooper finds far less than the pyramid, and one seed of the ego alone has failed."""
    runs = {
        ("town", "perfect", "pyramid"): (run(0, 20), run(1, 16)),
        ("town", "perfect", "f_cooper"): (run(0, 4), run(1, 4)),
        ("town", "perfect", "alone"): (run(1, 16, 0),),
        ("town", "noisy", "pyramid"): (run(0, 8), run(1, 8)),
    }
    costs = {
        ("town", "pyramid"): MethodCosts(JoiningParameters("aligned", 60, PARTS), FrameCosts(1.5, 0.1), 60.0, 20.0),
        ("town", "f_cooper"): MethodCosts(JoiningParameters("joint", 40, PARTS), FrameCosts(1, 0.2), 30.0, 30.0),
    }
    return Results(spec, runs, costs, {"alone: base": "the loss is nan"})


def tables(results: Results) -> dict[str, Table]:
    return {table.title: table for table in page_of(results, MADE_BY).sections[0].tables}


def test_a_table_has_means_differences_and_bytes(results: Results) -> None:
    found = tables(results)["town, perfect"]
    (pyramid, _), (f_cooper, stands_out), (alone, _) = found.rows
    assert found.headings[1:5] == ("AP@0.3", "AP@0.5", "AP@0.7", "AP@0.5 minus Pyramid")
    # 20 of 20 and 16 of 20 objects, the first ones by score: AP 1 and 0.8, mean 0.9, deviation 0.2 / sqrt(2).
    assert pyramid == ("Pyramid", *["0.900 ± 0.141"] * 3, "-", "-", "1,000", "2")
    assert f_cooper[1] == "0.200 ± 0.000" and f_cooper[4].startswith("-0.700 [") and stands_out
    assert alone == ("alone", *["0.800"] * 3, "-", "-", "0", "1")  # the difference would be one of seeds
    assert [texts[0] for texts, _ in tables(results)["town, noisy"].rows] == ["Pyramid"]


def test_a_table_says_who_is_ahead(results: Results) -> None:
    assert tables(results)["town, perfect"].note == "Ahead of Pyramid in AP@0.7: no method."
    runs = {
        **results.runs,
        ("town", "noisy", "f_cooper"): (run(0, 20), run(1, 20)),
        ("town", "noisy", "alone"): (run(0, 8), run(1, 9)),
    }
    note = tables(Results(results.spec, runs, results.costs, {}))["town, noisy"].note
    assert note == f"Ahead of Pyramid in AP@0.7: {EVIL}, clearly; alone."


def test_parts_are_told_apart(results: Results) -> None:
    by_distance = tables(results)["town, perfect: AP by distance from the ego"]
    assert by_distance.headings == ("method", "0-30 m, 0.5", "0-30 m, 0.7", "30-50 m, 0.5", "30-50 m, 0.7")
    # 4 of the 10 near vehicles and none of the far ones.
    assert by_distance.rows[1][0][1:] == ("0.400 ± 0.000", "0.400 ± 0.000", "0.000 ± 0.000", "0.000 ± 0.000")
    assert "town, perfect: AP by type of the ego" in tables(results)
    assert "town, perfect: AP by sensors of the ego" not in tables(results)  # there is only one kind


def test_costs_are_ratios_to_the_reference(results: Results) -> None:
    pyramid, f_cooper = (texts for texts, _ in tables(results)["town: costs"].rows)
    assert pyramid[1:] == ("1,100", "20", "40", "40", "1.50", "1.00 (0.1 s)", "1.00 (60 s)", "1.00 (20 s)")
    assert f_cooper[1:6] == ("1,080", "1,080", "2,140", "1,080", "1.00")
    assert f_cooper[6:] == ("2.00 (0.2 s)", "0.50 (30 s)", "1.50 (30 s)")


def test_the_page_is_whole_and_escapes_names(results: Results) -> None:
    text = render(page_of(results, MADE_BY))
    assert EVIL not in text and "&lt;script&gt;" in text
    assert "the loss is nan" in text and "What failed" in text
    titles = [figure.title for figure in figures_of(results, "town")]
    assert [title.split(",")[0] for title in titles] == [
        "AP by method",
        "AP@0.7 against bytes",
        "AP@0.7 against the error of the poses",
        "AP@0.5 by distance from the ego",
        "AP@0.5 by type of the ego",
    ]
    for figure in figures_of(results, "town"):
        assert figure.svg.startswith("<svg") and EVIL not in figure.svg
        assert all(f'id="{name}"' in figure.svg for name in re.findall(r'href="#([^"]*)"', figure.svg))


def test_seeds_on_other_scenes_are_refused(results: Results) -> None:
    strange = Run(0, matches(4, first=100), {"bytes_per_message": 0}), Run(1, matches(4), {"bytes_per_message": 0})
    with pytest.raises(UserError, match="same scenes"):
        page_of(Results(results.spec, {**results.runs, ("town", "perfect", "alone"): strange}, {}, {}), MADE_BY)


def test_a_comparison_in_which_everything_failed_has_a_page(spec: CompareSpec, tmp_path: Path) -> None:
    empty = Results(spec, {}, {}, {"pyramid: base": "no memory"})
    assert "no memory" in render(page_of(empty, MADE_BY)) and summary(empty) == []
    write_tables(empty, tmp_path)
    assert (tmp_path / "results.csv").read_text() == "method,data,condition,seed,measure,value\n"
