"""The exported graphs compute the same as the networks, for any number of pillars, images and agents."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from heal.agent_model import AgentModel
from heal.aligners.convnext import ConvNextAlignerConfig
from heal.base_model import BaseModel
from heal.encoders.lift_splat import LiftSplat
from heal.encoders.point_pillars import PointPillarsConfig
from heal.fusion.warp import coverage_mask
from heal.graphs.traceable import Graph, _coverage_mask, agent_graph, base_graphs, camera_cells
from tests.heal.encoders.test_lift_splat import cameras_of
from tests.heal.networks import AGENT, BASE, GRID, SECOND
from tests.heal.networks import LIFT_SPLAT as CAMERA

POINTS = replace(AGENT, encoder=PointPillarsConfig(channels=(8, 8), max_points=4, absolute_xyz=False, distance=True))
AGENTS = {
    "pillars": AGENT,
    "two-layers": POINTS,
    "aligned": replace(AGENT, aligner=ConvNextAlignerConfig()),
    "images": replace(SECOND, encoder=replace(CAMERA, cell_m=0.8, range_m=(-9.6, -8.0, -10.0, 9.6, 8.0, 10.0))),
    "sparse": SECOND,
}


def with_random_statistics(model: nn.Module) -> nn.Module:
    """Put a model into evaluation, with random statistics in its batch norms."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and module.running_mean is not None:
            module.running_mean.uniform_(-0.2, 0.2)
            assert module.running_var is not None
            module.running_var.uniform_(0.5, 2.0)
    return model.eval().requires_grad_(False)


def require_equal(graph: Graph, count: int) -> None:
    example = graph.example(count)
    assert len(graph.inputs) == len(example.inputs) and len(graph.outputs) == len(example.outputs)
    found = graph.module(*example.inputs)
    for one, right in zip([found] if isinstance(found, torch.Tensor) else found, example.outputs, strict=True):
        assert one.shape == right.shape and right.std() > 0
        assert float((one - right).abs().max()) < 1e-4 * float(right.abs().max())


@pytest.mark.parametrize("count", [1, 3, 400])
@pytest.mark.parametrize("kind", sorted(AGENTS))
def test_an_agent_s_graph_gives_its_feature_map(kind: str, count: int) -> None:
    torch.manual_seed(0)
    model = with_random_statistics(AgentModel(AGENTS[kind], GRID))
    assert isinstance(model, AgentModel)
    graph = agent_graph("m7", model)
    assert graph.name == ("m7.dense" if kind == "sparse" else "m7")
    require_equal(graph, count if graph.first_dimension == "pillars" else min(count, 5))


def test_an_encoder_that_is_left_out_is_named() -> None:
    assert "second" in agent_graph("m3", AgentModel(AGENTS["sparse"], GRID)).description


@pytest.mark.parametrize("gate", [0.0, 0.5])
@pytest.mark.parametrize("agents", [1, 2, 5])
@pytest.mark.parametrize("part", [0, 1, 2])
def test_the_base_s_graphs_give_its_heads(part: int, agents: int, gate: float) -> None:
    torch.manual_seed(0)
    pyramid = replace(BASE.pyramid, gate=gate, sharpness=4.0 if gate else 1.0)
    base = with_random_statistics(BaseModel(replace(BASE, pyramid=pyramid)))
    assert isinstance(base, BaseModel)
    require_equal(base_graphs(base)[part], agents)


def test_coverage_is_that_of_the_networks() -> None:
    ratios = [(2.0, 1.25), (1.0, 1.0), (0.5, 3.3), (1.9, 40.0)]
    for ny, nx in ((16, 32), (15, 27), (128, 256)):
        masks = _coverage_mask(torch.tensor([*ratios, (0.0, 0.0)], dtype=torch.float64), torch.zeros(5, 1, ny, nx))
        for mask, ratio in zip(masks, [*ratios, (1e-6, 1e-6)], strict=True):
            assert torch.equal(mask[0], coverage_mask(ratio, ny, nx))


def test_cells_of_a_camera_lie_before_it() -> None:
    encoder = LiftSplat(CAMERA, GRID)
    cells = camera_cells(encoder, cameras_of(1))  # one camera, which looks along +x
    outside = encoder.own_grid.ny * encoder.own_grid.nx
    inside = cells[cells < outside].numpy()
    assert len(inside) and np.all(inside % encoder.own_grid.nx >= encoder.own_grid.nx // 2 - 1)
    assert int(cells.max()) == outside  # nine metres ahead ends a map of eight
