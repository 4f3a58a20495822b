"""HEAL's baselines: exported and imported key for key and bit for bit, and read in the spellings that their files may have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from heal.agent_model import AgentConfig, AgentModel
from heal.alliance import TrainingRecord, load_alliance, save_agent, save_base
from heal.base_model import BaseConfig, BaseModel
from heal.config import ConfigError, build_config, load_yaml
from heal.detection.anchors import make_anchors
from heal.encoders.point_pillars import PointPillarsConfig
from heal.encoders.second import SecondConfig
from heal.layers.backbone import BackboneConfig
from heal.layers.shrink import ShrinkConfig
from heal.opencood.fusions import BASELINES, METHODS, read_fusion
from heal.tools.import_runs import read_run
from tests.heal.networks import with_random_norms
from tests.tools.command import run_command

CHECKPOINT = "net_epoch1.pth"
SINGLE_HEADS = {
    f"{name}_head_single.{part}": (width, *shape)
    for name, width in (("cls", 2), ("reg", 14), ("dir", 4))
    for part, shape in (("weight", (16, 1, 1)), ("bias", ()))
}
# Small settings of every fusion that HEAL has, for maps of 16 channels, and HEAL's block of them.
VIT = {"layers": 2, "heads": 2, "head_channels": 4, "windows": [2, 4], "window_heads": [4, 2], "window_head_channels": [4, 8]}
FUSIONS: dict[str, tuple[dict[str, Any], Any]] = {
    "f_cooper": ({}, None),
    "attfuse": ({}, {"feat_dim": 16}),
    "disconet": ({}, {"feat_dim": 16}),
    "v2vnet": (
        {"iterations": 3, "aggregation": "maximum"},
        {
            "num_iteration": 3,
            "agg_operator": "max",
            "in_channels": 16,
            "gru_flag": True,
            "conv_gru": {"H": 8, "W": 16, "num_layers": 1, "kernel_size": [[3, 3]]},
        },
    ),
    "coalign": (
        {"blocks": [1, 1], "strides": [1, 2], "channels": [16, 24], "upsample_strides": [1, 2], "upsample_channels": [8, 8]},
        {"feat_dim": [16, 24]},
    ),
    "cobevt": (
        {"layers": 2, "slots": 3, "head_channels": 8, "hidden": 12, "order": "given"},
        {"input_dim": 16, "mlp_dim": 12, "agent_size": 3, "window_size": 4, "dim_head": 8, "drop_out": 0.1, "depth": 2},
    ),
    "v2xvit": ({**VIT, "hidden": 12}, None),
}
PLAIN = BackboneConfig(
    kind="plain",
    blocks=(1, 1),
    strides=(2, 2),
    channels=(8, 16),
    upsample_strides=(1, 2),
    upsample_channels=(8, 8),
    shrink=ShrinkConfig(channels=(16,), sizes=(3,), strides=(2,)),
)
AGENTS = {
    "m1": AgentConfig(encoder=PointPillarsConfig(channels=(8,), max_points=8), backbone=PLAIN),
    "m2": AgentConfig(encoder=SecondConfig(max_points=3), backbone=replace(PLAIN, strides=(1, 2))),
}


def networks(kind: str) -> tuple[BaseConfig, dict[str, AgentConfig]]:
    """Return a small base and two agent types: with cells of 1.6 m, or with those of the scales' own agents."""
    scales = kind == "coalign"
    values = {
        "grid": {"range_m": [-12.8, -6.4, -3.0, 12.8, 6.4, 1.0], "cell_m": 0.8 if scales else 1.6},
        "in_channels": 16,
        "fusion": {"kind": kind, "foreground": False, **FUSIONS[kind][0]},
        "shrink_channels": [16] if scales else [],
        "decode": {"max_extent_m": 6.0, "z_limits_m": [-3.0, 1.0]},
    }
    residual = BackboneConfig(blocks=(1,), channels=(16,))
    own = {"m1": residual, "m2": replace(residual, strides=(1,))}
    agents = {name: replace(agent, backbone=own[name]) if scales else agent for name, agent in AGENTS.items()}
    return build_config(BaseConfig, values), agents


def write_alliance(path: Path, kind: str, names: tuple[str, ...] = ("m1", "m2"), single_heads: bool = False) -> Path:
    torch.manual_seed(0)
    base, agents = networks(kind)
    base = replace(base, single_heads=single_heads)
    model = with_random_norms(BaseModel(base))
    assert isinstance(model, BaseModel)
    base_hash = save_base(path, model, TrainingRecord())
    for name in names:
        save_agent(path, name, AgentModel(agents[name], base.grid), base_hash, TrainingRecord())
    return path


def exported(alliance: Path, out: Path, *more: object) -> dict[str, torch.Tensor]:
    run_command("export", alliance, "--out", out, *more)
    state: dict[str, torch.Tensor] = torch.load(out / CHECKPOINT, weights_only=True)
    return state


def edited(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = load_yaml(run / "config.yaml")
    change(values)
    (run / "config.yaml").write_text(yaml.safe_dump(values))


def test_every_fusion_that_heal_has_is_tested() -> None:
    assert set(FUSIONS) == {*METHODS, "coalign"}


@pytest.mark.parametrize("kind", FUSIONS)
def test_a_baseline_goes_out_and_comes_back_bit_for_bit(kind: str, tmp_path: Path) -> None:
    alliance = write_alliance(tmp_path / "alliance", kind)
    state = exported(alliance, tmp_path / "run")
    values = load_yaml(tmp_path / "run" / "config.yaml")
    args = values["model"]["args"]
    assert values["model"]["core_method"] == BASELINES[kind == "coalign"] and "heal_perception" not in values
    block = FUSIONS[kind][1]
    assert block is None or args[args["fusion_method"]] == block
    run_command("import", tmp_path / "run", "--out", tmp_path / "again")
    ours, again = load_alliance(alliance), load_alliance(tmp_path / "again")
    assert again.card.config == ours.card.config and again.base_hash == ours.base_hash
    assert [again.agent_card(name).hash for name in ("m1", "m2")] == [ours.agent_card(name).hash for name in ("m1", "m2")]
    second = exported(tmp_path / "again", tmp_path / "second")
    assert second.keys() == state.keys() and all(torch.equal(second[key], state[key]) for key in state)
    assert load_yaml(tmp_path / "second" / "config.yaml") == values


def test_anchors_of_cells_of_four_voxels_lie_a_voxel_from_the_border(tmp_path: Path) -> None:
    exported(write_alliance(tmp_path / "alliance", "f_cooper"), tmp_path / "run")
    edited(tmp_path / "run", lambda values: values["postprocess"]["anchor_args"].update(feature_stride=4))
    run_command("import", tmp_path / "run", "--out", tmp_path / "imported")
    settings = load_alliance(tmp_path / "imported").card.config
    anchors = make_anchors(settings.grid, settings.anchors)
    assert settings.anchors.margin_m == 0.4
    assert (float(anchors[0, 0, 0, 0]), float(anchors[0, 0, 0, 1])) == (pytest.approx(-12.4), pytest.approx(-6.0))
    exported(tmp_path / "imported", tmp_path / "again")
    values = load_yaml(tmp_path / "again" / "config.yaml")
    assert values["postprocess"]["anchor_args"]["feature_stride"] == 4 and "heal_perception" not in values
    assert values["preprocess"]["args"]["voxel_size"] == [0.4, 0.4, 4.0]


def test_heads_on_single_agents_go_out_and_come_back_bit_for_bit(tmp_path: Path) -> None:
    alliance = write_alliance(tmp_path / "alliance", "v2vnet", single_heads=True)
    state = exported(alliance, tmp_path / "run")
    assert {key: tuple(tensor.shape) for key, tensor in state.items() if "_single" in key} == SINGLE_HEADS
    values = load_yaml(tmp_path / "run" / "config.yaml")
    assert values["model"]["args"]["supervise_single"] is True and "heal_perception" not in values
    run_command("import", tmp_path / "run", "--out", tmp_path / "again")
    assert load_alliance(tmp_path / "again").base_hash == load_alliance(alliance).base_hash
    second = exported(tmp_path / "again", tmp_path / "second")
    assert second.keys() == state.keys() and all(torch.equal(second[key], state[key]) for key in state)


def test_the_checkpoint_tells_whether_there_are_heads_on_single_agents(tmp_path: Path) -> None:
    """What HEAL's configurations call them is not known."""
    run, without = tmp_path / "run", tmp_path / "without"
    exported(write_alliance(tmp_path / "alliance", "f_cooper", single_heads=True), run)
    edited(run, lambda values: values["model"]["args"].pop("supervise_single"))
    assert read_run(run).base.single_heads and not read_run(run).dropped
    exported(write_alliance(tmp_path / "plain", "f_cooper"), without)
    edited(without, lambda values: values["model"]["args"].update(supervise_single=True))
    assert not read_run(without).base.single_heads
    state = torch.load(run / CHECKPOINT, weights_only=True)
    torch.save({key: tensor for key, tensor in state.items() if key != "reg_head_single.bias"}, run / CHECKPOINT)
    with pytest.raises(ConfigError, match=r"lacks 1 of the .* reg_head_single\.bias"):
        read_run(run)


def test_networks_that_heal_has_without_heads_on_single_agents(tmp_path: Path) -> None:
    state = exported(write_alliance(tmp_path / "alliance", "coalign"), tmp_path / "run")
    torch.save({**state, **{key: torch.zeros(shape) for key, shape in SINGLE_HEADS.items()}}, tmp_path / "run" / CHECKPOINT)
    said = " ".join(run_command("import", tmp_path / "run", "--out", tmp_path / "again").split())
    assert "left out 6 weights that no network uses" in said
    coalign = write_alliance(tmp_path / "single", "coalign", single_heads=True)
    with pytest.raises(ConfigError, match=r"HEAL has no setting for base\.single_heads = True"):
        run_command("export", coalign, "--out", tmp_path / "refused")
    disconet = write_alliance(tmp_path / "disconet", "disconet", ("m1",), single_heads=True)
    with pytest.raises(ConfigError, match="no single heads"):
        run_command("export", disconet, "--one-type", "--out", tmp_path / "refused")


def test_blocks_are_found_under_other_names(tmp_path: Path) -> None:
    exported(write_alliance(tmp_path / "alliance", "v2xvit"), tmp_path / "run")
    plain = read_run(tmp_path / "run")

    def change(values: dict[str, Any]) -> None:
        args = values["model"]["args"]
        args["v2xvit"] = {"transformer": args["v2xvit"]}
        for name in ("m1", "m2"):
            args[name]["shrinker"] = args[name].pop("shrink_header")
            del args[name]["aligner_args"]

    edited(tmp_path / "run", change)
    again = read_run(tmp_path / "run")
    assert again.base == plain.base and again.agents == plain.agents


def test_heals_recorded_settings_are_understood() -> None:
    """The settings of the recorded fusions, with the constants that have no setting here."""
    cobevt = {"input_dim": 32, "mlp_dim": 48, "agent_size": 5, "window_size": 4, "dim_head": 8, "drop_out": 0.1, "depth": 2}
    found = read_fusion("heter_model_baseline", {"fusion_method": "cobevt", "cobevt": cobevt}, 32)
    expected = {"hidden": 48, "slots": 5, "window": 4, "head_channels": 8, "dropout": 0.1, "layers": 2, "order": "given"}
    assert found == {"kind": "cobevt", "foreground": False, **expected}
    assert read_fusion("heter_model_baseline", {"fusion_method": "disco"}, 32)["kind"] == "disconet"
    encoder = {"num_blocks": 1, "depth": 2, "use_roi_mask": True, "use_RTE": False, "RTE_ratio": 2, "sttf": {"downsample_rate": 4}}
    found = read_fusion("heter_model_baseline", {"fusion_method": "v2xvit", "v2xvit": {"encoder": encoder}}, 256)
    assert found == {"kind": "v2xvit", "foreground": False, "blocks": 1, "layers": 2}


@pytest.mark.parametrize(
    ("kind", "path", "value", "message"),
    [
        ("attfuse", ("att", "feat_dim"), 32, r"model\.args\.att\.feat_dim: expected 16, got 32"),
        ("v2vnet", ("v2vnet", "gru_flag"), False, r"model\.args\.v2vnet\.gru_flag: expected True, got False"),
        ("f_cooper", ("fusion_method",), "where2comm", r"fusion_method: expected one of max, att, .* got 'where2comm'"),
        ("coalign", ("fusion_method",), "disconet", r"expected one of att, max for heter_model_baseline_ms, got 'disconet'"),
        ("coalign", ("att", "feat_dim"), [16, 32], r"feat_dim: expected the channels of the scales \[16, 24\], got \[16, 32\]"),
        ("coalign", ("fusion_backbone",), None, "expected a block fusion_backbone with layer_nums"),
        ("f_cooper", ("shrink_header",), {"dim": [8], "kernal_size": [3], "stride": [1]}, "lacks 4 of the .* shrink_conv"),
    ],
)
def test_what_is_not_supported_is_refused(kind: str, path: tuple[str, ...], value: Any, message: str, tmp_path: Path) -> None:
    exported(write_alliance(tmp_path / "alliance", kind), tmp_path / "run")

    def change(values: dict[str, Any]) -> None:
        node = values["model"]["args"]
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value

    edited(tmp_path / "run", change)
    with pytest.raises(ConfigError, match=message):
        read_run(tmp_path / "run")


def test_what_heal_does_not_have_is_not_exported(tmp_path: Path) -> None:
    base, agents = networks("f_cooper")
    for fusion, message in (
        ({"kind": "ego_only"}, "HEAL has no fusion 'ego_only', only"),
        ({"kind": "f_cooper"}, "foreground = True"),
    ):
        changed = build_config(BaseConfig, {"grid": base.grid, "in_channels": 16, "fusion": fusion, "shrink_channels": []})
        path = tmp_path / fusion["kind"]
        save_agent(
            path, "m1", AgentModel(agents["m1"], base.grid), save_base(path, BaseModel(changed), TrainingRecord()), TrainingRecord()
        )
        with pytest.raises(ConfigError, match=message):
            exported(path, tmp_path / "run")


def test_discos_student_has_no_named_types_in_its_own_form(tmp_path: Path) -> None:
    alliance = write_alliance(tmp_path / "alliance", "disconet", ("m1",))
    named = exported(alliance, tmp_path / "named")
    state = exported(alliance, tmp_path / "run", "--one-type")
    values = load_yaml(tmp_path / "run" / "config.yaml")
    assert values["model"]["core_method"] == "point_pillar_disconet" and not {"heter", "heal_perception"} & set(values)
    assert {key.split(".")[0] for key in state} == {
        *("pillar_vfe", "backbone", "shrink_conv", "fusion_net", "cls_head", "reg_head", "dir_head")
    }
    assert all(torch.equal(one, other) for one, other in zip(state.values(), named.values(), strict=True))
    run_command("import", tmp_path / "run", "--out", tmp_path / "again")
    ours, again = load_alliance(alliance), load_alliance(tmp_path / "again")
    assert again.base_hash == ours.base_hash and again.agent_card("m1").hash == ours.agent_card("m1").hash
    edited(tmp_path / "run", lambda found: found["model"]["args"].update(compression=32))
    with pytest.raises(ConfigError, match="there is a compression, which is not supported"):
        read_run(tmp_path / "run")
    edited(tmp_path / "run", lambda found: found["model"]["args"].pop("voxel_size"))
    with pytest.raises(ConfigError, match="expected the blocks of point_pillar_disconet, there is no voxel_size"):
        read_run(tmp_path / "run")


def test_other_networks_have_no_form_without_named_types(tmp_path: Path) -> None:
    for kind, names in (("f_cooper", ("m1",)), ("disconet", ("m2",))):
        alliance = write_alliance(tmp_path / kind, kind, names)
        with pytest.raises(
            ConfigError, match=r"point_pillar_disconet is DiscoNet with one agent type, PointPillars.*leave --one-type out"
        ):
            exported(alliance, tmp_path / "run", "--one-type")
