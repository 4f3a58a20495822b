"""`heal score`: saved detections give the AP of their evaluation to the last bit, and hand-checked AP under other rules."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from heal.alliance import TrainingRecord, save_agent, save_base
from heal.detection.detections import Detections, GroundTruth
from heal.detection.metrics import IOU_THRESHOLDS, match_in_all_kinds
from heal.measures.matches import SceneFacts, SceneMatch, SceneMatches
from heal.measures.measure import Measure
from heal.measures.precision import average_precision
from heal.tools.shared.output import Output
from heal.tools.shared.scene_matches import SCENES_NAME, read_scenes, write_scenes
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


def test_all_measures_of_the_evaluation_are_those_that_score_computes(evaluation: Path) -> None:
    metrics = json.loads((evaluation / "metrics.json").read_text())
    for iou, rules in metrics["measures"].items():
        for rule, ap in rules.items():
            assert scored(evaluation, "--iou", iou, "--rule", rule)["runs"]["m1 + m2"]["ap"] == ap
    assert metrics["measures"]["bev"]["global"] == metrics["ap"] != metrics["measures"]["3d"]["global"]
    assert scored(evaluation)["runs"]["m1 + m2"]["breakdown"] == metrics["breakdown"]
    parts = {kind: [part["objects"] for part in parts.values()] for kind, parts in metrics["breakdown"].items()}
    assert sum(parts["distance"]) == sum(parts["ego_type"]) == metrics["ground_truths"] >= sum(parts["visibility"]) > 0
    assert list(metrics["breakdown"]["ego_sensor"]) == ["lidar"]


def test_tables_and_differences_are_by_the_rule_that_is_asked_for(evaluation: Path, tmp_path: Path) -> None:
    common = ("--alliance", evaluation.parent / "alliance", "--data", evaluation.parent / "town", "--threads", 1, "--pictures", 0)
    shown = ("--rule", "per_frame", "--iou", "3d", "--breakdown", "--distances", "8,16")
    text = " ".join(run_command("evaluate", *common, *shown, "--out", tmp_path / "out", "--types", "m1").split())
    assert text.count("3D IoU, detections of one frame after the other") == 2 and "8-16 m" in text and "ego m1" in text
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(metrics["breakdown"]["distance"])[:2] == ["0-8 m", "8-16 m"]
    runs = read_scenes(tmp_path / "out")
    ours, alone = (average_precision(runs[name], Measure(0.3, "per_frame", "3d")) for name in ("all agents", "ego alone"))
    assert metrics["differences"][0]["ap"]["0.3"]["difference"] == pytest.approx(ours - alone)  # type: ignore[operator]


def test_the_file_holds_the_boxes_as_they_were(evaluation: Path) -> None:
    for run in read_scenes(evaluation).values():
        scenes = zip(run.scene_ids.tolist(), run.scenes(), strict=True)
        again = SceneMatches.of([scene_match(name, found, truth, facts) for name, (found, truth, facts) in scenes])
        assert len(run.scene_ids) == 4 and len(run.scores) > 0 and run.counted.all() and (run.ego_points > 0).any()
        assert set(run.ego_types.tolist()) == {"m1"} and set(run.ego_sensors.tolist()) == {"lidar"}
        for part in fields(SceneMatches):
            assert part.name == "boxes" or (getattr(again, part.name) == getattr(run, part.name)).all()


def scene_match(name: str, found: Detections, truth: GroundTruth, facts: SceneFacts | None = None) -> SceneMatch:
    return SceneMatch.of(name, match_in_all_kinds(found, truth, IOU_THRESHOLDS), found, truth, facts)


def saved(folder: Path, *scenes: tuple[Detections, GroundTruth]) -> Path:
    """Write an evaluation of scenes that are made by hand, on a range of 40 m around the ego."""
    run = SceneMatches.of([scene_match(f"town/{number:03d}", *scene) for number, scene in enumerate(scenes)], scenes)
    output = Output(folder, MADE_BY)
    output.start()
    output.write_results({"range_m": [-40, -40, -3, 40, 40, 1], "use_z": True})
    write_scenes(folder / SCENES_NAME, {"together": run, "without boxes": SceneMatches.of([])})
    return folder


def scene(objects: list[tuple[float, float]], *found: tuple[tuple[float, float], float]) -> tuple[Detections, GroundTruth]:
    corners, scores = boxes_at(*(place for place, _ in found)), torch.tensor([score for _, score in found])
    return Detections(corners, scores), GroundTruth(boxes_at(*objects), torch.arange(len(objects)))


def test_the_order_of_frames_counts_where_it_is_asked_for(tmp_path: Path) -> None:
    """Of two objects one is found in the first scene; the second scene has a surer detection of nothing."""
    folder = saved(tmp_path, scene([NEAR], (NEAR, 0.2)), scene([NEAR], (NOWHERE, 0.9)))
    by_score, by_frame = scored(folder)["runs"], scored(folder, "--rule", "per_frame")["runs"]
    assert list(by_score) == ["together", "without boxes"]
    # Half of the objects, at a precision of 1/2 where the sure miss comes first, and of 1 where it comes last.
    assert by_score["together"]["ap"]["0.7"] == 0.25 and by_frame["together"]["ap"]["0.7"] == 0.5


def test_a_smaller_range_leaves_out_detections_and_objects(tmp_path: Path) -> None:
    folder = saved(tmp_path, scene([NEAR, FAR], (NEAR, 0.9), (NOWHERE, 0.5), ((-28.0, 5.0), 0.4)))
    everywhere, near = scored(folder), scored(folder, "--range-m", -20, -20, -3, 20, 20, 1)
    counts = [tuple(values["runs"]["together"][key] for key in ("detections", "ground_truths")) for values in (everywhere, near)]
    assert counts == [(3, 2), (2, 1)] and near["range_m"][0] == -20
    assert (everywhere["runs"]["together"]["ap"]["0.5"], near["runs"]["together"]["ap"]["0.5"]) == (0.5, 1.0)
    # The third detection lies two metres beside its object, along the car: some overlap.
    at_little = scored(folder, "--thresholds", "0.2")["runs"]["together"]["ap"]
    assert at_little == {"0.2": pytest.approx(0.5 + 0.5 * 2 / 3)}
    assert run_command("score", folder, "--thresholds", "0.2,0.20").count("AP@0.2") == 1, "one column for one threshold"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--range-m", -50, -20, -3, 20, 20, 1), "inside that of the evaluation, -40 -40 -3 40 40 1"),
        (("--thresholds", "0.5,1.5"), "--thresholds '0.5,1.5'"),
        (("--thresholds", "half"), "--thresholds 'half'"),
        (("--rule", "name"), "--rule: expected global or per_frame"),
        (("--iou", "0.5"), "--iou: expected bev or 3d"),
        (("--distances", "30,20"), "--distances '30,20': expected ascending"),
        (("--distances", "near"), "--distances 'near'"),
    ],
    ids=str,
)
def test_rules_that_cannot_be_used_are_refused(options: tuple[object, ...], said: str, tmp_path: Path) -> None:
    folder = saved(tmp_path, scene([NEAR], (NEAR, 0.2)))
    with pytest.raises(ValueError, match=said):
        scored(folder, *options)


def test_an_evaluation_without_boxes_says_how_to_keep_them(tmp_path: Path) -> None:
    folder = saved(tmp_path, scene([NEAR], (NEAR, 0.2)))
    bare = replace(read_scenes(folder)["together"], boxes=None)
    write_scenes(folder / SCENES_NAME, {"together": bare})
    assert scored(folder)["runs"]["together"]["ap"] == dict.fromkeys(("0.3", "0.5", "0.7"), 1.0)
    assert list(scored(folder, "--thresholds", "0.7")["runs"]["together"]["ap"]) == ["0.7"]
    for options in (("--thresholds", "0.6"), ("--range-m", -20, -20, -3, 20, 20, 1)):
        with pytest.raises(ValueError, match=r"holds no boxes, which .* need; evaluate again with --save-detections"):
            scored(folder, *options)
    (folder / "metrics.json").write_text("{}")
    with pytest.raises(ValueError, match=r"metrics\.json: not readable as the results of an evaluation"):
        scored(folder)
