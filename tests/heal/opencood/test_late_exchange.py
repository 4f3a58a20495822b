"""HEAL's single-agent detectors and late-fusion runs are imported as one alliance for each type, and exported key for key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from heal.aligners.aligner import IdentityAlignerConfig
from heal.alliance import load_alliance
from heal.config import ConfigError, load_yaml
from heal.opencood.config import Networks
from heal.opencood.late import import_detectors, write_detectors
from heal.opencood.run import export_state, make_networks
from heal.tools.import_runs import read_runs
from tests.configs.recipes import recipe
from tests.configs.test_single_recipes import REFERENCES
from tests.heal.networks import GRID
from tests.tools.command import run_command
from tests.tools.test_exchange import AGENTS, BASE

# The layers of small detectors: the scales begin with the agent's own map.
PYRAMID = replace(BASE.pyramid, blocks=(1, 2), strides=(1, 2), channels=(16, 32), single_agent=True)
SPARE = {"m1": 2, "m2": 1, "m3": 2}


def detector(name: str) -> Networks:
    """Return a small detector; the cameras have a range of their own."""
    grid = replace(GRID, range_m=(-6.4, -6.4, -3.0, 6.4, 6.4, 1.0)) if name == "m3" else BASE.grid
    base = replace(BASE, grid=grid, pyramid=replace(PYRAMID, spare_stride=SPARE[name]))
    return Networks(base=base, agents={name: replace(AGENTS[name], aligner=IdentityAlignerConfig())})


def weights(networks: Networks, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return random weights under HEAL's names."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for key, tensor in export_state(make_networks(networks)).items():
        size = tuple(tensor.shape)
        found[key] = torch.rand(size, generator=generator) if tensor.is_floating_point() else torch.tensor(seed, dtype=tensor.dtype)
    return found


def write_run(folder: Path, detectors: Mapping[str, Networks]) -> dict[str, torch.Tensor]:
    """Write a run folder in HEAL's layout; return its weights."""
    folder.mkdir()
    state: dict[str, torch.Tensor] = {}
    for seed, networks in enumerate(detectors.values()):
        state |= weights(networks, seed)
    torch.save(state, folder / "net_epoch7.pth")
    (folder / "config.yaml").write_text(yaml.safe_dump(write_detectors(detectors, (600, 800)), sort_keys=False))
    return state


def exported(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / "net_epoch1.pth", weights_only=True)
    return state


def same(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def edited(folder: Path, change: Any) -> None:
    values = load_yaml(folder / "config.yaml")
    change(values)
    (folder / "config.yaml").write_text(yaml.safe_dump(values))


def test_a_late_run_becomes_one_alliance_for_each_type_and_comes_back_key_for_key(tmp_path: Path) -> None:
    detectors = {name: detector(name) for name in AGENTS}
    state = write_run(tmp_path / "run", detectors)
    assert {
        "layers_m1.resnet.layer0.0.downsample.0.weight",
        "shrink_conv_m2.layers.0.double_conv.0.bias",
        "cls_head_m3.bias",
    } <= set(state)
    run_command("import", tmp_path / "run", "--out", tmp_path / "detectors")
    folders = [tmp_path / "detectors" / name for name in AGENTS]
    for folder, (name, networks) in zip(folders, detectors.items(), strict=True):
        opened = load_alliance(folder)
        assert opened.agent_names == (name,)
        assert opened.card.config == networks.base and opened.agent_card(name).config == networks.agents[name]
    run_command("export", *folders, "--out", tmp_path / "again")
    assert same(exported(tmp_path / "again"), state)
    assert load_yaml(tmp_path / "again" / "config.yaml") == load_yaml(tmp_path / "run" / "config.yaml")


def test_single_runs_share_an_output_folder_and_can_be_renamed(tmp_path: Path) -> None:
    states = {name: write_run(tmp_path / f"run_{name}", {name: detector(name)}) for name in ("m1", "m2")}
    run_command("import", tmp_path / "run_m1", tmp_path / "run_m2", "--rename", "m2=m4", "--out", tmp_path / "detectors")
    run_command("export", tmp_path / "detectors" / "m4", "--rename", "m4=m2", "--out", tmp_path / "again")
    assert same(exported(tmp_path / "again"), states["m2"])
    assert load_alliance(tmp_path / "detectors" / "m1").card.config == detector("m1").base
    folders = [tmp_path / "detectors" / name for name in ("m1", "m4")]
    run_command("export", *folders, "--types", "m1", "--out", tmp_path / "one")
    assert same(exported(tmp_path / "one"), states["m1"])


def test_the_parts_of_a_detector_are_found_under_other_names_and_beside_the_types(tmp_path: Path) -> None:
    write_run(tmp_path / "run", {"m1": detector("m1")})
    plain = read_runs(tmp_path / "run")[0]

    def change(values: dict[str, Any]) -> None:
        args = values["model"]["args"]
        args["m1"]["layers"] = args["m1"].pop("layers_args")
        args["shrink_header"] = args["m1"].pop("shrink_header")
        del args["m1"]["dir_args"], args["m1"]["head_args"]

    edited(tmp_path / "run", change)
    assert read_runs(tmp_path / "run")[0].base == plain.base
    edited(tmp_path / "run", lambda values: values["model"]["args"].pop("shrink_header"))
    with pytest.raises(ConfigError, match=r"model\.args\.m1: expected a block shrink_header with the key kernal_size"):
        read_runs(tmp_path / "run")


def test_weights_of_other_types_do_not_count_as_left_out(tmp_path: Path) -> None:
    state = write_run(tmp_path / "run", {name: detector(name) for name in ("m1", "m2")})
    torch.save({**state, "depth_head_m2.weight": torch.ones(1)}, tmp_path / "run" / "net_epoch7.pth")
    first, second = read_runs(tmp_path / "run")
    assert (first.dropped, second.dropped) == ((), ("depth_head_m2.weight",))
    assert list(read_runs(tmp_path / "run", ["m2"])[0].agents) == ["m2"]
    with pytest.raises(ConfigError, match=r"expected the agent types \['m5'\], got \['m1', 'm2'\]"):
        read_runs(tmp_path / "run", ["m5"])


def test_what_heal_has_no_place_for_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "run", {"m1": detector("m1")})
    run_command("import", tmp_path / "run", "--out", tmp_path / "detectors")
    folder = tmp_path / "detectors" / "m1"
    with pytest.raises(ConfigError, match=r"expected one detector of the type m1, got .*m1, .*m1"):
        run_command("export", folder, folder, "--out", tmp_path / "again")
    with pytest.raises(ConfigError, match="expected one detector of the type m8, got none"):
        run_command("export", folder, "--types", "m8", "--out", tmp_path / "again")
    networks = detector("m1")
    grouped = replace(networks, base=replace(networks.base, pyramid=replace(networks.base.pyramid, groups=4, base_width=16)))
    with pytest.raises(ConfigError, match=r"m1: HEAL's single-agent detectors have plain residual blocks .* groups=4"):
        write_detectors({"m1": grouped}, (600, 800))


@pytest.mark.parametrize("name", REFERENCES)
def test_a_run_of_every_recipe_is_read_whole(name: str) -> None:
    settings, heal_name = recipe(name), REFERENCES[name][1]
    networks = Networks(base=settings.base, agents={heal_name: next(iter(settings.agents.values()))})
    written = write_detectors({heal_name: networks}, (1080, 1920) if name.startswith("dair") else (600, 800))
    layers = written["model"]["args"][heal_name]["layers_args"]
    assert (written["model"]["core_method"], layers["layer_nums"]) == ("heter_model_late", [3, 5, 8])
    assert layers["layer_strides"] == [networks.base.pyramid.spare_stride, 2, 2]
    model = make_networks(networks)
    state = {key: torch.zeros(tensor.shape, dtype=tensor.dtype) for key, tensor in export_state(model).items()}
    (run,) = import_detectors(written, state)
    assert (run.base, run.agents, run.dropped) == (networks.base, networks.agents, ())
    names = {f"base.{key}" for key in run.base_state} | {f"agents.{heal_name}.{key}" for key in run.agent_states[heal_name]}
    assert names == set(model.state_dict())
