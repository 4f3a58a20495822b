"""`heal analyse` from a command line to its numbers and pictures, and fusion weights that are those of the fusion."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from heal.agent_types import in_order
from heal.alliance import TrainingRecord, load_alliance, read_base_card, save_agent
from heal.datasets.town import TownSource
from heal.se3 import relative_SE3
from heal.tools.analysis.features import type_features
from heal.tools.analysis.weights import scene_weights
from tests.agents.tiny_run import TinyAlliance, TinySource, save_tiny_alliance
from tests.tools.command import run_command


@pytest.fixture(scope="module")
def alliance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tiny alliance with three types: m2 has the networks of m1, m3 has other ones."""
    path = save_tiny_alliance(tmp_path_factory.mktemp("alliance"))
    base_hash = read_base_card(path).hash
    for name, seed in (("m2", 0), ("m3", 1)):
        save_agent(path, name, TinyAlliance(seed).agent("m1"), base_hash, TrainingRecord())
    return path


def test_the_command_writes_numbers_and_pictures(alliance: Path, tmp_path: Path) -> None:
    options = ("--preset", "test", "--scenes", 2, "--pictures", 2, "--seed", 5)
    run_command("analyse", "--alliance", alliance, "--out", tmp_path, *options)
    found = json.loads((tmp_path / "analysis.json").read_text())
    assert found["types"] == ["m1", "m2", "m3"] and found["similarity"]["vehicles"]["cells"] > 10
    for name in ("vehicles", "everywhere"):
        matrix = np.array(found["similarity"][name]["cka"])
        assert np.allclose(matrix, matrix.T) and np.allclose(np.diag(matrix), 1)
        assert matrix[0, 1] == pytest.approx(1) and matrix[0, 2] < 0.99  # equal networks, and other ones
    agents = found["weights"][0]["agents"]
    assert len(found["weights"]) == 2 and agents[0]["type"] == "m1" and len(agents[0]["mean"]) == 2
    for name in ("weights_1", "weights_2", "similarity", "projection"):
        assert np.ptp(imread(tmp_path / f"{name}.png")[..., :3]) > 0.5


def test_weights_sum_to_one_and_reproduce_the_fusion(alliance: Path) -> None:
    opened, source, types_of = load_alliance(alliance), TinySource(), in_order(["m1", "m3"])
    found = scene_weights(opened, source, types_of, 1, comm_range_m=70)
    assert (found.agent_ids, found.agent_types) == (("ego", "b", "c"), ("m1", "m3", "m1"))
    frames = [source.agent_frame(1, name) for name in found.agent_ids]
    models = [opened.agent(kind) for kind in found.agent_types]
    with torch.no_grad():
        features = torch.cat([model(model.prepare([frame])) for model, frame in zip(models, frames, strict=True)])
        levels = opened.base.trunk(features)
        poses = torch.from_numpy(
            np.stack([relative_SE3(frame.world_SE3_agent_measured, frames[0].world_SE3_agent_measured) for frame in frames])
        )
        # The fused map of constant maps, one constant for each agent, is the mean of the constants by these weights.
        constants = torch.tensor([1.0, 10.0, 100.0])[:, None, None, None]
        maps = [constants.expand(-1, 2, *level.shape[-2:]).contiguous() for level in levels.maps]
        fused = opened.base.fusion.fuse_scored(maps, opened.base.pyramid_backbone.scores(levels.occupancy), poses, [3])
    for weights, level in zip(found.weights, fused, strict=True):
        total = weights.sum(axis=0)
        assert weights.min() >= 0 and total.max() <= 1 + 1e-5 and total.mean() > 0.9
        assert np.allclose(np.tensordot([1.0, 10.0, 100.0], weights, 1), level[0, 0].numpy(), atol=1e-3)
    means = found.means()
    assert sum(row["mean"][0] for row in means) == pytest.approx(float(found.weights[0].sum(axis=0).mean()), abs=1e-3)  # type: ignore[index]


def test_an_agent_out_of_range_has_no_weight_and_one_alone_has_all(alliance: Path) -> None:
    far = replace(TinySource(), spacing_m=50.0)
    found = scene_weights(load_alliance(alliance), far, in_order(["m1"]), 0, comm_range_m=60)
    assert found.agent_ids == ("ego", "b")
    alone = scene_weights(load_alliance(alliance), far, in_order(["m1"]), 0, comm_range_m=10)
    assert alone.agent_ids == ("ego",) and all(np.array_equal(level, np.ones_like(level)) for level in alone.weights)


def test_all_types_encode_the_same_agent_at_the_same_cells(alliance: Path) -> None:
    found = type_features(load_alliance(alliance), ["m1", "m2", "m3"], TownSource("test", 5, 4), [0, 2], seed=0)
    assert [len(part) for part in found.everywhere] == [2048] * 3 and found.everywhere[0].shape[1] == 8
    assert len({len(part) for part in found.foreground}) == 1
    assert np.array_equal(found.foreground[0], found.foreground[1]) and not np.allclose(found.foreground[0], found.foreground[2])
