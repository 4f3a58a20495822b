"""HEAL's runs on DAIR-V2X, in its own layout: their configurations say more than the networks and the data have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from heal.alliance import load_alliance
from heal.config import ConfigError, load_yaml
from heal.opencood.config import Networks, write_config
from heal.opencood.run import export_state, make_networks
from heal.tools.import_runs import read_run
from tests.configs.recipes import REFERENCES, recipe
from tests.golden.fixture import FOLDER
from tests.tools.command import run_command

FOUR = ["camera0", "camera1", "camera2", "camera3"]


def write_run(folder: Path, name: str) -> tuple[Path, dict[str, torch.Tensor]]:
    """Write a run of a recipe as HEAL writes it: four cameras, an argument that nothing reads, every stage 2 with a type m2.

    Returns:
        The run folder, and its weights: each its own number.
    """
    settings, single = recipe(name), "stage2" in name
    agents = dict(zip(["m2"] if single else settings.agents, settings.agents.values(), strict=True))
    networks = Networks(base=settings.base, agents=agents)
    values = write_config(networks, (1080, 1920))
    del values["heal_perception"]
    values["fusion"]["dataset"] = "dairv2x"
    values["model"]["core_method"] = "heter_pyramid_single" if single else "heter_pyramid_collab"
    for agent in agents:
        block = values["model"]["args"][agent]
        block["aligner_args"].setdefault("args", {})["warpnet_indim"] = 128
        if block["sensor_type"] == "camera":
            assert (block["encoder_args"]["data_aug_conf"]["cams"], block["encoder_args"]["data_aug_conf"]["Ncams"]) == (FOUR, 4)
    state = {
        key: torch.full_like(tensor, number % 1000, device="cpu")
        for number, (key, tensor) in enumerate(export_state(make_networks(networks)).items())
    }
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    torch.save(state, folder / "net_epoch1.pth")
    return folder, state


@pytest.mark.parametrize("name", ["dair/final_m1m2", "dair/stage2_m3", "dair/stage2_m4"])
def test_a_run_is_imported_and_exported_key_for_key(name: str, tmp_path: Path) -> None:
    run, state = write_run(tmp_path / "run", name)
    listing = FOLDER / "state_dict" / f"{REFERENCES[name]}.json"
    if listing.exists():
        assert {key: list(tensor.shape) for key, tensor in state.items()} == {
            key: entry["shape"] for key, entry in json.loads(listing.read_text())["state_dict"].items()
        }
    run_command("import", run, "--out", tmp_path / "alliance")
    encoder = load_alliance(tmp_path / "alliance").agent_card("m2").config.encoder
    assert name == "dair/stage2_m3" or (encoder.cameras, encoder.image.size) == ((), (288, 512))
    run_command("export", tmp_path / "alliance", "--out", tmp_path / "again")
    again = torch.load(tmp_path / "again" / "net_epoch1.pth", weights_only=True)
    assert list(again) == list(state) and all(torch.equal(again[key], state[key]) for key in state)


def test_a_run_on_other_data_keeps_its_cameras_and_unknown_arguments_are_refused(tmp_path: Path) -> None:
    run, _ = write_run(tmp_path / "run", "dair/stage2_m4")
    values = load_yaml(run / "config.yaml")
    values["fusion"]["dataset"] = "opv2v"
    (run / "config.yaml").write_text(yaml.safe_dump(values))
    assert read_run(run).agents["m2"].encoder.cameras == tuple(FOUR)
    (run / "config.yaml").write_text(yaml.safe_dump({**values, "data_dir": "dataset/my_dair_v2x"}))
    assert read_run(run).agents["m2"].encoder.cameras == ()
    values["model"]["args"]["m2"]["aligner_args"]["args"]["warp"] = 128
    (run / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match="warp: unknown key"):
        read_run(run)
