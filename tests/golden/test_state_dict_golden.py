"""The names and shapes of exported weights equal the reference's, so its checkpoints can be read and written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heal.agent_model import AgentConfig, AgentModel
from heal.base_model import BaseConfig, BaseModel
from heal.collab_model import CollabModel
from heal.config import load_config
from heal.opencood.config import Networks
from heal.opencood.run import export_state, make_networks
from heal.tools.shared.paths import CONFIGS
from heal.tools.shared.setting_files import read_agent_type
from heal.training.config import TrainingConfig
from tests.golden.fixture import FOLDER

# The reference's configurations, and ours of the same networks: a base, and an agent type by the reference's name.
SAME: dict[str, tuple[str, dict[str, str]]] = {
    "opv2v*HEAL*stage1*m1_pyramid": ("base.yaml", {"m1": "m1.yaml"}),
    "opv2v*HEAL*stage2*m2_single_pyramid": ("base.yaml", {"m2": "m2.yaml"}),
    "opv2v*HEAL*stage2*m3_single_pyramid": ("base.yaml", {"m3": "m3.yaml"}),
    "opv2v*HEAL*stage2*m4_single_pyramid": ("base.yaml", {"m4": "m4.yaml"}),
    "opv2v*HEAL*final*": ("base.yaml", {"m1": "m1.yaml", "m2": "m2.yaml", "m3": "m3.yaml", "m4": "m4.yaml"}),
    "dairv2x*HEAL*stage1*m1_pyramid": ("dair.yaml", {"m1": "m1.yaml"}),
    "dairv2x*HEAL*stage2*m2_single_pyramid": ("dair.yaml", {"m2": "dair_m2.yaml"}),
    "dairv2x*HEAL*stage2*m3_single_pyramid": ("dair.yaml", {"m2": "m3.yaml"}),
    "dairv2x*HEAL*stage2*m4_single_pyramid": ("dair.yaml", {"m2": "dair_m4.yaml"}),
    "dairv2x*HEAL*final*": ("dair.yaml", {"m1": "m1.yaml", "m2": "dair_m2.yaml"}),
}
CASES = [
    pytest.param(path, *ours, id=path.stem, marks=pytest.mark.golden)
    for pattern, ours in SAME.items()
    for path in sorted(FOLDER.glob(f"state_dict/{pattern}.json"))
]


@pytest.mark.golden
@pytest.mark.skipif(not CASES, reason=f"no state_dict listing in {FOLDER}; set HEAL_GOLDEN to the folder that has it")
@pytest.mark.parametrize(("path", "base", "agents"), CASES)
def test_the_papers_networks_are_exported_with_the_references_weights(path: Path, base: str, agents: dict[str, str]) -> None:
    networks = Networks(
        base=load_config(TrainingConfig, CONFIGS / base).base,
        agents={name: read_agent_type(file.removesuffix(".yaml")) for name, file in agents.items()},
    )
    found = {key: list(tensor.shape) for key, tensor in export_state(make_networks(networks)).items()}
    expected = json.loads(path.read_text())["state_dict"]
    assert found == {key: entry["shape"] for key, entry in expected.items()}


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
