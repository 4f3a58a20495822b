"""What the reader of a data set chose is printed and written with the results: the kind of labels, the scale of intensities."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heal.config import save_config
from tests.agents.tiny_run import save_tiny_alliance
from tests.datasets.dair import dair_tree
from tests.datasets.opv2v import opv2v_tree
from tests.tools.command import run_command
from tests.tools.training.small_training import SETTINGS


def said_by(*arguments: object) -> str:
    return " ".join(run_command(*arguments).split())


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize("kind", ["original labels", "complemented labels"])
def test_results_say_which_labels_of_dair_were_used(tmp_path: Path, kind: str) -> None:
    root, out = dair_tree.write_tree(tmp_path / "data"), tmp_path / "out"
    if kind == "complemented labels":
        for folder in ("cooperative/label_world_backup", "vehicle-side/label/lidar_backup"):
            (root / dair_tree.INNER / folder).mkdir()
    common = ("--alliance", save_tiny_alliance(tmp_path / "alliance"), "--out", out)
    said = said_by("evaluate", *common, "--data", root, "--split", "val", "--pictures", 0, "--threads", 1)
    assert said.count(kind) == 2 and f"scored against: {kind}" in said and read(out / "metrics.json")["data"]["labels"] == kind
    assert kind in said_by("simulate", *common, "--source", root, "--split", "val", "--runtime", "local", "--overwrite")
    assert read(out / "metrics.json")["data"]["labels"] == kind


@pytest.mark.parametrize("command", ["evaluate", "simulate", "train"])
def test_a_scale_of_intensities_can_be_given(tmp_path: Path, command: str) -> None:
    root, out = opv2v_tree.write_tree(tmp_path), tmp_path / "out"
    for path in root.rglob("*.pcd"):
        path.unlink()
        np.array([[1, 0, 0, 0.2], [2, 0, 0, 1.8]], np.float32).tofile(path.with_suffix(".bin"))
    save_config(replace(SETTINGS, training=replace(SETTINGS.training, epochs=1)), tmp_path / "base.yaml")
    alliance = ("--alliance", save_tiny_alliance(tmp_path / "alliance"))
    more = {
        "evaluate": ("evaluate", *alliance, "--data", root, "--pictures", 0, "--threads", 1),
        "simulate": ("simulate", *alliance, "--source", root, "--runtime", "local"),
        "train": ("train", "base", "--data", root, "--split", "test", "--config", tmp_path / "base.yaml", "--device", "cpu"),
    }[command]
    note = "intensities stored as floats are read on the scale 0 to 2, as asked for or documented"
    assert note in said_by(*more, "--out", out, "--intensity-scale", 2)
    record = read(out / "data.json") if command == "train" else read(out / "metrics.json")["data"]
    assert record["notes"] == [note]
