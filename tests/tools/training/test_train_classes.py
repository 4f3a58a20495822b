"""Commands with a base of three classes: it is trained, scored class by class, and not exported for HEAL."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heal.alliance import load_alliance
from heal.config import ConfigError, save_config
from heal.datasets.opv2v.writer import write_scenario
from heal.detection.classes import EVERY_TYPE, OBJECT_TYPES
from heal.tools.shared.paths import CONFIGS
from heal.tools.training.settings import resolve_settings
from heal.types import Scene
from tests.heal.heads.test_class_heads import THREE
from tests.heal.networks import BASE, small_scene
from tests.tools.command import run_command
from tests.tools.training.small_training import SETTINGS

NAMES = ("vehicle", "pedestrian", "cyclist")
TYPES = np.array([OBJECT_TYPES.index(kind) for kind in ("bus", "pedestrian", "cyclist")])


def typed(scene: Scene, number: int) -> Scene:
    """Return a small scene at a time of its own, whose objects are a bus, a pedestrian and a cyclist."""
    frames = [
        replace(frame, timestamp_ns=number * 10**8, objects=replace(frame.objects, classes=TYPES[frame.objects.ids]))
        for frame in scene.frames
    ]
    return Scene.of(frames, scene.outline.scene_id)


def test_commands_train_and_score_three_classes(tmp_path: Path) -> None:
    for split in ("train", "test"):
        scenes = [typed(small_scene(seed, agents=2), seed) for seed in range(2)]
        write_scenario(scenes, tmp_path / "data", split, "drive", classes=EVERY_TYPE)
    schedule = replace(SETTINGS.training, epochs=1, recorded_scenes=0)
    quick = replace(SETTINGS, base=replace(BASE, classes=THREE), training=schedule)
    save_config(quick, tmp_path / "base.yaml")
    data, run = ("--data", tmp_path / "data"), tmp_path / "run"
    run_command("train", "base", *data, "--config", tmp_path / "base.yaml", "--out", run, "--threads", 1)
    alliance = load_alliance(run / "alliance")
    assert alliance.base.config.class_names == NAMES
    evaluated = tmp_path / "evaluated"
    output = run_command("evaluate", "--alliance", alliance.path, *data, "--out", evaluated, "--pictures", 0)
    metrics = json.loads((evaluated / "metrics.json").read_text())
    assert list(metrics["classes"]) == list(NAMES) and metrics["breakdown"]["class"].keys() == set(NAMES)
    assert all(part["ground_truths"] > 0 for part in metrics["classes"].values())
    assert all(f"  {name}" in output for name in NAMES)
    assert all(f"  {name}" in run_command("score", evaluated) for name in NAMES)
    with pytest.raises(ConfigError, match=r"HEAL has no setting for base\.classes"):
        run_command("export", alliance.path, "--out", tmp_path / "for-heal")


def test_the_shipped_base_of_three_classes_resolves() -> None:
    settings = resolve_settings(CONFIGS / "demo" / "base_classes.yaml", None, [])
    assert settings.base.class_names == ("vehicle", "cyclist", "pedestrian")
    assert [one.anchors.length_m for one in settings.base.anchor_classes] == [4.4, 1.9, 0.7]
