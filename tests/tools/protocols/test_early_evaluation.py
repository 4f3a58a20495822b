"""`heal evaluate --early` detects in the joint cloud of the agents in range, and says early what it cannot do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from heal.errors import UserError
from heal.tools.shared.scene_matches import read_scenes
from tests.agents.tiny_run import save_tiny_alliance
from tests.tools.command import run_command
from tests.tools.protocols.test_late_fusion import WIDE, data, detectors, save_detector

__all__ = ["data", "detectors"]


def test_early_fusion_is_evaluated_in_order_with_any_base(data: Path, tmp_path: Path) -> None:
    fusing, detector = save_tiny_alliance(tmp_path / "alliance"), save_detector(tmp_path / "detector", "m1")
    for name, alliance in (("fusing", fusing), ("detector", detector)):
        common = ("--alliance", alliance, "--data", data, "--pictures", 1, "--threads", 1, *WIDE)
        run_command("evaluate", *common, "--early", "--in-order", "m1,m1", "--out", tmp_path / name)
        run_command("evaluate", *common, "--agents", 1, "--out", tmp_path / f"{name}-alone")
        matches, alone = read_scenes(tmp_path / name), read_scenes(tmp_path / f"{name}-alone")["ego alone"]
        # The joint cloud of the ego alone is its own cloud.
        np.testing.assert_allclose(matches["m1"].scores, alone.scores, rtol=0, atol=1e-5)
        assert not np.array_equal(matches["m1 + m1"].scores, matches["m1"].scores)
        made_by = json.loads((tmp_path / name / "metrics.json").read_text())["made_by"]
        assert "--early" in made_by["command"] and (tmp_path / name / "scene_000000.png").exists()


def test_what_early_fusion_cannot_do_is_refused(detectors: dict[str, Path], data: Path, tmp_path: Path) -> None:
    common = ("evaluate", "--data", data, "--out", tmp_path / "out", *WIDE, "--alliance", detectors["m1"], "--early")
    with pytest.raises(UserError, match="--late sends boxes instead of points"):
        run_command(*common, "--late")
    with pytest.raises(UserError, match="several alliances are for late fusion"):
        run_command(*common, "--alliance", detectors["m2"])
    assert not (tmp_path / "out").exists()


def test_an_ego_with_cameras_detects_in_the_points_of_others(data: Path, tmp_path: Path) -> None:
    demo = ("--alliance", Path("configs/demo/alliance"), "--types", "m2,m1")
    run_command("evaluate", "--data", data, *demo, "--early", "--pictures", 0, "--out", tmp_path / "out")
    assert read_scenes(tmp_path / "out")["all agents"].ego_types.tolist() == ["m2", "m2"]
