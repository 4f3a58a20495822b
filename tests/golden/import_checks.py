"""Whole networks, read from the reference's configuration and checkpoint, give the recorded outputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from heal.agent_model import AgentModel
from heal.base_model import BaseModel
from heal.collab_model import CollabBatch, CollabModel
from heal.detection.anchors import make_anchors, spread_anchors
from heal.detection.decode import decode_candidates, select_boxes
from heal.detection.head import HeadOutput
from heal.detection.loss import depth_loss, detection_loss, occupancy_loss
from heal.encoders.table import EncoderInput
from heal.encoders.voxelize import Voxels
from heal.opencood.run import export_state, import_state
from tests.golden.boxes_checks import recorded_loss_config, recorded_targets
from tests.golden.camera_checks import recorded_cameras
from tests.golden.fixture import Fixture, assert_close
from tests.golden.networks_checks import recorded_poses, recorded_voxels


def _imported(fixture: Fixture, types: list[str]) -> CollabModel:
    """Return the fixture's network with some agent types."""
    state = fixture.reference_state()
    run = import_state(fixture.config, state, types)
    base, agents = BaseModel(run.base), {name: AgentModel(settings, run.base.grid) for name, settings in run.agents.items()}
    base.load_state_dict(run.base_state)
    for name, agent in agents.items():
        agent.load_state_dict(run.agent_states[name])
    model = CollabModel(base, agents).eval()
    exported = export_state(model)
    assert set(exported) | set(run.dropped) == set(state) and not set(exported) & set(run.dropped)
    assert all(torch.equal(exported[key], state[key]) for key in exported)
    return model


def _inputs(fixture: Fixture, name: str, agents: int) -> EncoderInput:
    if f"inputs_{name}/imgs_f16" in fixture.names("in/"):
        return recorded_cameras(fixture, f"inputs_{name}/")
    voxels: Voxels = replace(recorded_voxels(fixture, f"inputs_{name}"), batch_size=agents)
    return voxels


def check_collab(fixture: Fixture) -> None:
    types = tuple(name for scene in fixture.config["agents"] for name in scene)
    counts = tuple(fixture.input("record_len").tolist())
    model = _imported(fixture, sorted(set(types)))
    inputs = {name: _inputs(fixture, name, types.count(name)) for name in dict.fromkeys(types)}
    coverage = tuple(model.agent(name).coverage for name in types)
    batch = CollabBatch(inputs, types, counts, recorded_poses(fixture, list(counts)), coverage)
    with torch.no_grad():
        output, features = model(batch), model.encode(batch)
    _check_head(fixture, output.head, output.occupancy)
    for name in inputs:
        rows = torch.tensor([kind == name for kind in types])
        if model.agents[name].coverage is None:  # for other types, the reference recorded the map before the cut to the range
            assert_close(features[rows].mean((2, 3)), fixture.expected(f"per_agent_feature/aligner_{name}"), 1e-3, 1e-5)
    _check_detections(fixture, model.base, output.head)


def check_single(fixture: Fixture) -> None:
    (name,) = [name.removeprefix("encoder_") for name in fixture.config["trainable_modules"] if name.startswith("encoder_")]
    model = _imported(fixture, [name])
    agent = model.agents[name]
    assert isinstance(agent, AgentModel)
    targets = recorded_targets(fixture, "label_dict")
    with torch.no_grad():
        maps, depth = agent.forward_with_depth(_inputs(fixture, name, len(targets.positive)))
        levels = model.base.trunk(maps)
        head = model.base.heads(model.base.pyramid_backbone.join(levels.maps))
    _check_head(fixture, head, levels.occupancy)
    config = recorded_loss_config(fixture.config["loss"]["args"])
    loss = detection_loss(head, targets, config, make_anchors(model.base.config.grid, model.base.config.anchors))
    pyramid, total = occupancy_loss(levels.occupancy, targets, config), loss.total
    parts = {"cls": loss.classification, "reg": loss.regression, "dir": loss.direction, "pyramid": pyramid}
    if depth is not None:
        assert depth.bins is not None
        assert_close(depth.logits, fixture.expected("depth_logit"), 1e-3, 1e-5)
        parts["depth"] = depth_loss(depth.logits, torch.from_numpy(fixture.expected("depth_idx")).long(), config)
        total = total + parts["depth"]
    for part, found in parts.items():
        np.testing.assert_allclose(found, fixture.expected(f"loss_parts/{part}_loss"), rtol=1e-4)
    np.testing.assert_allclose(total + pyramid, fixture.expected("loss_eval_mode"), rtol=1e-4)


def _check_head(fixture: Fixture, head: HeadOutput, occupancy: tuple[torch.Tensor, ...]) -> None:
    for name, found in (("cls", head.classification), ("reg", head.regression), ("dir", head.direction)):
        assert_close(found, fixture.expected(f"{name}_preds"), 1e-3, 1e-5)
    for i, logits in enumerate(occupancy):
        assert_close(logits, fixture.expected(f"occ/{i}"), 1e-3, 1e-5)


def _check_detections(fixture: Fixture, base: BaseModel, head: HeadOutput) -> None:
    offset = fixture.config["cls_offset_before_postprocess"]
    first = HeadOutput(head.classification[:1] - offset, head.regression[:1], head.direction[:1])
    grid, voxel_m = base.config.grid, fixture.config["postprocess"]["anchor_args"]["vw"]
    anchors = spread_anchors(grid.range_m, (grid.ny, grid.nx), base.config.anchors, voxel_m)
    config, gt_range_m = base.config.decode, fixture.config["postprocess"]["gt_range"]
    found = select_boxes(*decode_candidates(first, anchors, config), config, gt_range_m)
    if "post_corners" not in fixture.names("out/"):
        assert len(found.scores) == 0
        return
    np.testing.assert_allclose(found.corners, fixture.expected("post_corners"), atol=1e-2)
    np.testing.assert_allclose(found.scores, fixture.expected("post_scores"), atol=1e-3)
