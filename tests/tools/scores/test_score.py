"""`heal score`: saved detections give the AP of their evaluation to the last bit, and hand-checked AP under other rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from heal.alliance import TrainingRecord, save_agent, save_base
from heal.detection.detections import Detections, GroundTruth
from heal.detection.metrics import IOU_THRESHOLDS, match_frame
from heal.tools.shared.output import Output
from heal.tools.shared.scene_matches import SCENES_NAME, SceneMatches, read_scenes, write_scenes
from tests.agents.made_ticks import boxes_at
from tests.agents.tiny_run import TinyAlliance
from tests.tools.command import MADE_BY, generate_town, run_command

NEAR, FAR, NOWHERE = (8.0, 5.0), (-30.0, 5.0), (0.0, -12.0)


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evaluate two types in order on a tiny town, and keep the detections."""
    folder = tmp_path_factory.mktemp("evaluation")
    tiny = TinyAlliance()
    base_hash = save_base(folder / "alliance", tiny.base, TrainingRecord())
    for name in ("m1", "m2"):
        save_agent(folder / "alliance", name, tiny.agent(name), base_hash, TrainingRecord())
    generate_town(folder / "town")
    common = ("--alliance", folder / "alliance", "--data", folder / "town", "--out", folder / "out", "--threads", 1)
    run_command("evaluate", *common, "--in-order", "m1,m2", "--pictures", 0, "--save-detections")
    return folder / "out"


def scored(folder: Path, *options: object) -> dict[str, Any]:
    run_command("score", folder, "--out", folder / "score.json", *options)
    values: dict[str, Any] = json.loads((folder / "score.json").read_text())
    return values


def test_the_ap_is_that_of_the_evaluation_to_the_last_bit(evaluation: Path) -> None:
    metrics, again = json.loads((evaluation / "metrics.json").read_text()), scored(evaluation)
    assert metrics["ap"]["0.3"] > 0 and metrics["ground_truths"] > 0
    assert {step["run"]: step["ap"] for step in metrics["steps"]} == {name: run["ap"] for name, run in again["runs"].items()}
    assert again["runs"]["m1 + m2"]["ground_truths"] == metrics["ground_truths"]
    assert (again["rule"], again["range_m"], again["use_z"]) == (metrics["rule"], metrics["range_m"], metrics["use_z"])
    assert again["made_by"]["alliance"] == metrics["made_by"]["alliance"]
    assert again["made_by"]["command"].startswith("heal score")


def test_the_file_holds_the_boxes_as_they_were(evaluation: Path) -> None:
    for run in read_scenes(evaluation).values():
        frames = [match_frame(found, truth, IOU_THRESHOLDS) for found, truth in run.scenes()]
        matched = SceneMatches.of(run.scene_ids.tolist(), frames)
        assert len(frames) == len(run.scene_ids) == 4 and len(matched.scores) > 0
        for part in ("scores", "true_positive", "detections", "objects"):
            assert (getattr(matched, part) == getattr(run, part)).all()


def saved(folder: Path, *scenes: tuple[Detections, GroundTruth]) -> Path:
    """Write an evaluation of scenes that are made by hand, on a range of 40 m around the ego."""
    matches = [match_frame(*scene, IOU_THRESHOLDS) for scene in scenes]
    run = SceneMatches.of([f"town/{number:03d}" for number in range(len(scenes))], matches, scenes)
    output = Output(folder, MADE_BY)
    output.start()
    output.write_results({"range_m": [-40, -40, -3, 40, 40, 1], "use_z": True})
    write_scenes(folder / SCENES_NAME, {"together": run, "without boxes": SceneMatches.of([], [])})
    return folder


def scene(objects: list[tuple[float, float]], *found: tuple[tuple[float, float], float]) -> tuple[Detections, GroundTruth]:
    corners, scores = boxes_at(*(place for place, _ in found)), torch.tensor([score for _, score in found])
    return Detections(corners, scores), GroundTruth(boxes_at(*objects), torch.arange(len(objects)))


def test_the_order_of_frames_counts_where_it_is_asked_for(tmp_path: Path) -> None:
    """Of two objects one is found in the first scene; the second scene has a surer detection of nothing."""
    folder = saved(tmp_path, scene([NEAR], (NEAR, 0.2)), scene([NEAR], (NOWHERE, 0.9)))
    by_score, by_frame = scored(folder)["runs"], scored(folder, "--order", "frame")["runs"]
    assert list(by_score) == ["together"]
    # Half of the objects, at a precision of 1/2 where the sure miss comes first, and of 1 where it comes last.
    assert by_score["together"]["ap"]["0.7"] == 0.25 and by_frame["together"]["ap"]["0.7"] == 0.5


def test_a_smaller_range_leaves_out_detections_and_objects(tmp_path: Path) -> None:
    folder = saved(tmp_path, scene([NEAR, FAR], (NEAR, 0.9), (NOWHERE, 0.5), ((-28.0, 5.0), 0.4)))
    everywhere, near = scored(folder), scored(folder, "--range-m", -20, -20, -3, 20, 20, 1)
    counts = [tuple(values["runs"]["together"][key] for key in ("detections", "ground_truths")) for values in (everywhere, near)]
    assert counts == [(3, 2), (2, 1)] and near["range_m"][0] == -20
    assert (everywhere["runs"]["together"]["ap"]["0.5"], near["runs"]["together"]["ap"]["0.5"]) == (0.5, 1.0)
    # The third detection lies two metres beside its object, along the car: some overlap.
    at_little = scored(folder, "--iou", "0.2")["runs"]["together"]["ap"]
    assert at_little == {"0.2": pytest.approx(0.5 + 0.5 * 2 / 3)}
    assert run_command("score", folder, "--iou", "0.2,0.20").count("AP@0.2") == 1, "one column for one threshold"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--range-m", -50, -20, -3, 20, 20, 1), "inside that of the evaluation, -40 -40 -3 40 40 1"),
        (("--iou", "0.5,1.5"), "--iou '0.5,1.5'"),
        (("--iou", "half"), "--iou 'half'"),
        (("--order", "name"), "--order: expected score or frame"),
    ],
    ids=str,
)
def test_rules_that_cannot_be_used_are_refused(options: tuple[object, ...], said: str, tmp_path: Path) -> None:
    folder = saved(tmp_path, scene([NEAR], (NEAR, 0.2)))
    with pytest.raises(ValueError, match=said):
        scored(folder, *options)


def test_an_evaluation_without_boxes_says_how_to_keep_them(tmp_path: Path) -> None:
    folder = saved(tmp_path, scene([NEAR], (NEAR, 0.2)))
    write_scenes(folder / SCENES_NAME, {"together": SceneMatches.of([], [])})
    with pytest.raises(ValueError, match="holds no boxes; evaluate again with --save-detections"):
        scored(folder)
    (folder / "metrics.json").write_text("{}")
    with pytest.raises(ValueError, match=r"metrics\.json: not readable as the results of an evaluation"):
        scored(folder)
