"""The names and shapes of our weights against the reference's, so that its checkpoints can be read and written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heal.agent_model import AgentConfig, AgentModel
from heal.base_model import BaseConfig, BaseModel
from heal.collab import CollabModel
from tests.golden.fixture import FOLDER, reference_key

FILES = sorted(FOLDER.glob("state_dict/*HEAL*stage1*m1_pyramid.json"))


@pytest.mark.golden
@pytest.mark.skipif(not FILES, reason=f"no state_dict listing in {FOLDER}; set HEAL_GOLDEN to the folder that has it")
@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_the_default_network_has_the_references_weights(path: Path) -> None:
    model = CollabModel(BaseModel(BaseConfig()), {"m1": AgentModel(AgentConfig(), BaseConfig().grid)})
    found = {reference_key(name): list(tensor.shape) for name, tensor in model.state_dict().items()}
    expected = json.loads(path.read_text())["state_dict"]
    assert found == {name: entry["shape"] for name, entry in expected.items()}


def test_the_default_network_has_as_many_weights_as_the_reference() -> None:
    base, agent = BaseModel(BaseConfig()), AgentModel(AgentConfig(), BaseConfig().grid)
    counts = {
        name: sum(weight.numel() for weight in part.parameters())
        for name, part in (
            ("encoder", agent.encoder),
            ("backbone", agent.backbone),
            ("pyramid", base.pyramid_backbone),
            ("shrink", base.shrink_conv),
            ("all", CollabModel(base, {"m1": agent})),
        )
    }
    assert counts == {"encoder": 768, "backbone": 226_176, "pyramid": 3_757_635, "shrink": 1_475_072, "all": 5_464_791}
