"""Every fusion computes what its plain form does, which loops over agents and cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch

from heal.fusion.table import FUSIONS, make_fusion
from heal.fusion.v2vnet import V2VNetConfig
from heal.grid import BevGrid
from heal.layers.inference import for_inference
from tests.heal.fusion import naive_forms, naive_transformers
from tests.heal.fusion.naive_forms import NaiveForm, NaiveScene
from tests.heal.fusion.test_every_fusion import CHANNELS, SMALL, TYPES, poses
from tests.heal.networks import with_random_norms

FORMS: Mapping[str, NaiveForm] = {**naive_forms.FORMS, **naive_transformers.FORMS}
# Other settings that change the formulas.
OTHERS: tuple[Any, ...] = (
    V2VNetConfig(iterations=1, aggregation="maximum"),
    replace(next(part for part in SMALL if part.kind == "coalign"), method="maximum"),
)
GRID = BevGrid((-6.4, -3.2, -3.0, 6.4, 3.2, 1.0), 0.8)
POSES = poses((0, 0, 0), (1.9, -0.7, 20), (-2.1, 1.1, -75))


def test_every_fusion_has_a_plain_form() -> None:
    assert set(FORMS) == {settings.kind for settings in SMALL} and len(FORMS) == len(FUSIONS)


@pytest.mark.parametrize("trust", [(1.0, 1.0, 1.0), (1.0, 0.5, 0.8)], ids=["trusted", "less trusted"])
@pytest.mark.parametrize("settings", (*SMALL, *OTHERS), ids=lambda settings: settings.kind)
def test_a_fusion_equals_its_plain_form(settings: Any, trust: tuple[float, ...]) -> None:
    torch.manual_seed(0)
    fusion = make_fusion(settings, CHANNELS, GRID).eval().requires_grad_(False)
    for weight in fusion.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    with_random_norms(fusion)
    maps, factors, types = torch.randn(3, CHANNELS, GRID.ny, GRID.nx).relu(), torch.tensor(trust), TYPES[:3]
    levels = fusion.trunk(maps)
    scores = [level.clone() for level in fusion.scores(levels.occupancy)]
    for level in scores:
        level[1:, :, :2, :3] = 0
    seen = [level * (score != 0) for level, score in zip(levels.maps, scores, strict=True)]
    expected = FORMS[settings.kind](fusion, NaiveScene(seen, scores, POSES, factors, types, GRID))
    for network in (fusion, for_inference(fusion)):
        found = network.fuse_scored(levels.maps, scores, POSES, (3,), factors, agent_types=types)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert float((one[0] - other).abs().max()) <= 1e-4 * float(other.abs().max())
