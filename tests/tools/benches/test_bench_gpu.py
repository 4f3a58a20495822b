"""The bench of a GPU runs without Ray and Open3D, and its checks see a network that computes something else."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from heal.aligners.aligner import ALIGNERS
from heal.alliance import load_alliance
from heal.box_corners import corners_to_boxes
from heal.layers.inference import for_inference
from heal.se3 import transform_points
from heal.tools.benches import gpu_checks
from heal.tools.benches.gpu import SMALL_SCENES
from heal.tools.benches.gpu_checks import Checked, check_device, largest_difference
from heal.tools.benches.made_scenes import CAR_INTENSITY, HEIGHT_M, LENGTH_M, WIDTH_M
from heal.tools.benches.setup import CPU
from tests.agents.tiny_run import save_tiny_alliance

WITHOUT_LIBRARIES = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("ray", "open3d", "spconv", "spconv_triton"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from heal.tools.cli import main
main()
"""
CHECKS = (
    "encoder-m1",
    *(f"aligner-{kind}" for kind in ALIGNERS if kind != "identity"),
    "base",
    *(f"train/stage{stage}-{what}" for stage in (1, 2) for what in ("losses", "gradients")),
    "evaluation",
)
RATES = ("frame-m1", "forward-m1", "evaluate-batch1", "evaluate-batch4", "train-stage1", "train-stage2")


def test_it_checks_and_times_everything_without_ray_and_open3d(tmp_path: Path) -> None:
    alliance, out = save_tiny_alliance(tmp_path / "alliance"), tmp_path / "gpu.json"
    arguments = ("--small", "--device", "cpu", "--alliance", alliance, "--repeats", 1, "--threads", 1, "--json", out)
    command = [sys.executable, "-c", WITHOUT_LIBRARIES, "bench", "gpu", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {(row["name"], row["dtype"]): row for row in json.loads(out.read_text())}
    assert {name for name, _ in rows} == {f"check/{name}" for name in CHECKS} | {f"gpu/{name}" for name in RATES}
    # On the CPU, the two sides differ in folded norms, in the batch, and in nothing else.
    assert all(rows[f"check/{name}", "float32"]["value"] <= 1e-4 for name in CHECKS)
    assert all(rows[f"gpu/{name}", precision]["value"] > 0 for name in RATES for precision in ("float32", "bfloat16"))
    assert rows["gpu/train-stage1", "float32"]["unit"] == "steps/s"


def test_a_network_that_computes_something_else_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alliance = load_alliance(save_tiny_alliance(tmp_path))

    def spoiled(network: nn.Module) -> nn.Module:
        fast = for_inference(network)
        weights = max(fast.parameters(), key=torch.numel)
        weights *= 1.01
        return fast

    monkeypatch.setattr(gpu_checks, "for_inference", spoiled)
    checked = Checked(CPU, {"m1": alliance.agent("m1")}, alliance.base, (), alliance, SMALL_SCENES)
    found = {row.name: row.value or 0.0 for row in check_device(checked, ())}
    assert set(found) == {f"check/{name}" for name in CHECKS if "train" not in name and name != "evaluation"}
    assert min(value for name, value in found.items() if name in ("check/encoder-m1", "check/base")) > 1e-3


def test_a_difference_is_relative_to_the_largest_value() -> None:
    expected, found = [torch.tensor([1.0, -8.0]), torch.tensor([[2.0]])], [torch.tensor([1.0, -8.0]), torch.tensor([[1.0]])]
    assert largest_difference(expected, found) == 1 / 8
    assert largest_difference(expected, expected) == 0
    assert math.isnan(largest_difference(expected, [torch.tensor([1.0, math.nan]), torch.tensor([[2.0]])]))


def test_made_scenes_show_the_vehicles_that_they_label() -> None:
    outline, others = SMALL_SCENES.outline(1), set[int]()
    for agent_id in outline.agent_ids:
        frame = SMALL_SCENES.agent_frame(1, agent_id)
        assert frame.lidar is not None and len(frame.objects) > 1
        points = frame.lidar.points
        on_cars = transform_points(frame.world_SE3_agent, points[points[:, 3] == np.float32(CAR_INTENSITY), :3].astype(np.float64))
        found = np.zeros(len(frame.objects), bool)
        surfaces = np.full(len(on_cars), np.inf)
        for i, box in enumerate(corners_to_boxes(torch.from_numpy(frame.objects.world_corners).numpy())):
            cos, sin = np.cos(box[6]), np.sin(box[6])
            local = (on_cars - box[:3]) @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
            off_m = np.abs((np.abs(local) - np.array([LENGTH_M, WIDTH_M, HEIGHT_M]) / 2).max(axis=1))
            found[i] = (off_m < 0.05).any()
            surfaces = np.minimum(surfaces, off_m)
        assert found.all() and (surfaces < 0.05).all()
        ground = transform_points(frame.world_SE3_agent, points[points[:, 3] != np.float32(CAR_INTENSITY), :3].astype(np.float64))
        assert np.abs(ground[:, 2]).max() < 0.05
        others |= set(frame.objects.ids.tolist())
    assert len(others) == SMALL_SCENES.cars
