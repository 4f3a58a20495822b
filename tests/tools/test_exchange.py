"""Run folders of HEAL: export and import are inverse, several folders become one alliance, unsupported folders are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from heal.agent_model import AgentConfig, AgentModel
from heal.aligners.convnext import ConvNextAlignerConfig
from heal.alliance import AllianceError, TrainingRecord, load_alliance, save_agent, save_base
from heal.base_model import BaseConfig, BaseModel
from heal.config import ConfigError, load_yaml
from heal.detection.anchors import AnchorConfig
from heal.detection.decode import DecodeConfig
from heal.encoders.images import ImageConfig
from heal.encoders.lift_splat import LiftSplatConfig
from heal.encoders.lift_splat_depth import DepthBinsConfig
from heal.encoders.point_pillars import PointPillarsConfig
from heal.encoders.second import SecondConfig
from heal.fusion.pyramid import PyramidConfig
from heal.grid import BevGrid
from heal.layers.backbone import BackboneConfig
from heal.tools.export import export_alliance
from heal.tools.import_runs import find_checkpoint, join_runs, read_run, rename_agents
from tests.tools.command import run_command

BASE = BaseConfig(
    grid=BevGrid((-12.8, -6.4, -3.0, 12.8, 6.4, 1.0), 0.8),
    in_channels=16,
    pyramid=PyramidConfig(
        blocks=(1, 1), strides=(1, 2), channels=(16, 32), groups=0, upsample_strides=(1, 2), upsample_channels=(16, 16)
    ),
    shrink_channels=(16,),
    anchors=AnchorConfig(length_m=4.5, z_m=-0.7),
    decode=DecodeConfig(nms_iou=0.05, max_extent_m=None),
)
AGENTS = {
    "m1": AgentConfig(
        encoder=PointPillarsConfig(channels=(8,), max_points=8), backbone=BackboneConfig(blocks=(1,), channels=(16,))
    ),
    "m2": AgentConfig(
        encoder=SecondConfig(max_points=3),
        backbone=BackboneConfig(blocks=(1,), strides=(1,), channels=(16,)),
        aligner=ConvNextAlignerConfig(blocks=1),
    ),
    "m3": AgentConfig(
        encoder=LiftSplatConfig(
            image=ImageConfig(size=(64, 96), zoom=(1.1, 1.3)),
            trunk="resnet101",
            trunk_stride=8,
            drop_path=0.0,
            norm_momentum=0.1,
            channels=8,
            depth=DepthBinsConfig(count=4),
            range_m=(-6.4, -6.4, -10, 6.4, 6.4, 10),
        ),
        backbone=BackboneConfig(blocks=(1,), channels=(16,)),
        aligner=ConvNextAlignerConfig(blocks=1),
    ),
}


def _write_alliance(path: Path, names: tuple[str, ...] = tuple(AGENTS), seed: int = 0, base: BaseConfig = BASE) -> Path:
    torch.manual_seed(seed)
    base_hash = save_base(path, BaseModel(base), TrainingRecord())
    for name in names:
        save_agent(path, name, AgentModel(AGENTS[name], base.grid), base_hash, TrainingRecord())
    return path


@pytest.fixture(scope="module")
def alliance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_alliance(tmp_path_factory.mktemp("alliances") / "alliance")


@pytest.fixture
def run(alliance: Path, tmp_path: Path) -> Path:
    """Return a run folder of HEAL with m1 and m2."""
    export_alliance(load_alliance(alliance), {"m1": "m1", "m2": "m2"}, tmp_path / "run")
    return tmp_path / "run"


def _edit(run: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    state = torch.load(run / "net_epoch1.pth", weights_only=True)
    change(state)
    torch.save(state, run / "net_epoch1.pth")


def _edit_config(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = load_yaml(run / "config.yaml")
    change(values)
    (run / "config.yaml").write_text(yaml.safe_dump(values))


def test_an_exported_alliance_is_imported_again_bit_by_bit(alliance: Path, tmp_path: Path) -> None:
    run_command("export", alliance, "--out", tmp_path / "run")
    run_command("import", tmp_path / "run", "--out", tmp_path / "again")
    ours, again = load_alliance(alliance), load_alliance(tmp_path / "again")
    assert again.card.config == ours.card.config and again.agent_names == ours.agent_names == ("m1", "m2", "m3")
    # The hashes are over configuration and weights.
    assert again.base_hash == ours.base_hash
    for name in ours.agent_names:
        assert again.agent_card(name).config == ours.agent_card(name).config
        assert again.agent_card(name).hash == ours.agent_card(name).hash


def test_an_exported_configuration_has_heals_keys_and_values(run: Path) -> None:
    values = load_yaml(run / "config.yaml")
    args, post = values["model"]["args"], values["postprocess"]
    assert values["model"]["core_method"] == "heter_pyramid_collab"
    assert [key for key in args if key.startswith("m")] == ["m1", "m2"] == list(values["heter"]["mapping_dict"])
    assert args["m1"]["encoder_args"]["voxel_size"] == [0.4, 0.4, 4.0] and args["m2"]["backbone_args"]["inplanes"] == 128
    assert args["m2"]["encoder_args"]["spconv"] == {"num_features_in": 4, "num_features_out": 64}
    assert [type(stride) for stride in args["fusion_backbone"]["upsample_strides"]] == [int, int]
    assert args["fusion_backbone"]["resnext"] is False and args["shrink_header"]["input_dim"] == 32
    assert (post["anchor_args"]["l"], post["nms_thresh"], post["anchor_args"]["r"]) == (4.5, 0.05, [0.0, 90.0])
    assert values["preprocess"]["args"]["voxel_size"] == [0.4, 0.4, 4.0]
    assert values["heter"]["modality_setting"]["m2"]["preprocess"]["args"]["max_points_per_voxel"] == 3
    assert values["heal_perception"]["base"] == {"anchors": {"z_m": -0.7}, "decode": {"max_extent_m": None, "z_limits_m": None}}


def test_a_run_folder_without_our_own_key_gets_heals_fixed_decoding(run: Path) -> None:
    _edit_config(run, lambda values: values.pop("heal_perception"))
    decode = read_run(run).base.decode
    assert (decode.max_extent_m, decode.z_limits_m, decode.nms_iou) == (6.0, (-3.0, 1.0), 0.05)


def test_kernels_of_spconv_1_are_transposed(run: Path) -> None:
    new = read_run(run)

    def as_old(state: dict[str, torch.Tensor]) -> None:
        for key, kernel in state.items():
            if kernel.ndim == 5:
                state[key] = kernel.permute(1, 2, 3, 4, 0).contiguous()

    _edit(run, as_old)
    assert torch.load(run / "net_epoch1.pth", weights_only=True)["encoder_m2.spconv_block.conv1.0.0.weight"].shape == (
        3,
        3,
        3,
        16,
        16,
    )
    for name, kernel in read_run(run).agent_states["m2"].items():
        assert torch.equal(kernel, new.agent_states["m2"][name])


@pytest.mark.parametrize("shape", [(3, 3, 3, 64, 16), (16, 3, 3, 3, 64)])
def test_a_sparse_encoder_of_64_point_channels_is_refused_but_not_its_companions(run: Path, shape: tuple[int, ...]) -> None:
    _edit(run, lambda state: state.update({"encoder_m2.spconv_block.conv_input.0.weight": torch.zeros(shape)}))
    with pytest.raises(ConfigError, match=r"m2.*a point has 4 channels.*undefined.*--types"):
        read_run(run)
    assert list(read_run(run, ["m1"]).agents) == ["m1"]


def test_old_names_are_understood_and_unused_weights_left_out(run: Path) -> None:
    new = read_run(run)

    def as_old(state: dict[str, torch.Tensor]) -> None:
        for key in list(state):
            state[key.replace("channel_align.model", "model.model")] = state.pop(key)
        state["encoder_m1.camencode.final_conv.weight"] = torch.zeros(3)

    _edit(run, as_old)
    old = read_run(run)
    assert old.dropped == ("encoder_m1.camencode.final_conv.weight",)
    assert old.agent_states["m2"].keys() == new.agent_states["m2"].keys()
    assert torch.equal(old.agent_states["m2"]["aligner.channel_align.model.0.gamma"], torch.full((16,), 1e-6))


def test_stage_2_folders_join_the_alliance_of_their_base(alliance: Path, tmp_path: Path) -> None:
    opened = load_alliance(alliance)
    for folder, name in (("stage1", "m1"), ("first", "m2"), ("second", "m2")):
        export_alliance(opened, {name: name}, tmp_path / folder)
        if name == "m2":
            _edit_config(tmp_path / folder, lambda values: values["model"].update(core_method="heter_pyramid_single"))
    run_command("import", tmp_path / "stage1", "--out", tmp_path / "joined")
    run_command("import", tmp_path / "first", "--out", tmp_path / "joined")
    with pytest.raises(AllianceError, match=r"more than one agent type is called m2.*--rename m2=NEW"):
        run_command("import", tmp_path / "second", "--out", tmp_path / "joined")
    run_command("import", tmp_path / "second", "--rename", "m2=m3", "--out", tmp_path / "joined")
    joined = load_alliance(tmp_path / "joined")
    assert joined.base_hash == opened.base_hash
    hashes = [joined.agent_card(name).hash for name in joined.agent_names]
    assert hashes == [opened.agent_card(name).hash for name in ("m1", "m2", "m2")]


def test_a_different_base_of_the_last_folder_is_only_used_with_base_wins(run: Path, tmp_path: Path) -> None:
    other = load_alliance(_write_alliance(tmp_path / "other", ("m1",), seed=1, base=replace(BASE, decode=DecodeConfig())))
    export_alliance(other, {"m1": "m4"}, tmp_path / "last")
    runs = [read_run(run), read_run(tmp_path / "last")]
    with pytest.raises(AllianceError, match=r"bases differ in .* weights.*--base-wins"):
        join_runs(runs, tmp_path / "joined", ["run", "last"])
    joined = join_runs(runs, tmp_path / "joined", ["run", "last"], base_wins=True)
    assert joined.base_hash == other.base_hash and joined.agent_names == ("m1", "m2", "m4")


def test_grids_of_other_heights_do_not_mix(run: Path, tmp_path: Path) -> None:
    first = read_run(run)
    raised = replace(first.base, grid=BevGrid((-12.8, -6.4, -3.5, 12.8, 6.4, 1.5), 0.8))
    with pytest.raises(AllianceError, match=r"z from -3.5 to 1.5 m .* the base has -3.0 to 1.0 m"):
        join_runs([replace(rename_agents(first, {"m1": "m5", "m2": "m6"}), base=raised), first], tmp_path / "joined", ["a", "b"])


def test_the_best_checkpoint_is_preferred_then_the_last(tmp_path: Path) -> None:
    def best(*names: str) -> str:
        folder = tmp_path / str(len(names))
        folder.mkdir()
        for name in names:
            (folder / name).touch()
        return find_checkpoint(folder).name

    assert best("net_epoch9.pth", "net_epoch10.pth") == "net_epoch10.pth"
    assert best("net_epoch9.pth", "net_epoch10.pth", "net_epoch_bestval_at7.pth") == "net_epoch_bestval_at7.pth"
    with pytest.raises(ConfigError, match="no HEAL run folder"):
        best("latest.pth")


class _Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run by loading",)


def test_a_file_that_would_run_code_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"x": _Harmful()}, run / "net_epoch1.pth")
    with pytest.raises(ConfigError, match="not a file of weights alone"):
        read_run(run)
    assert "run by loading" not in capsys.readouterr().out


def test_a_checkpoint_that_does_not_fit_is_refused_with_the_reason(run: Path) -> None:
    _edit(run, lambda state: state.update({"cls_head.bias": torch.zeros(9)}))
    with pytest.raises(ConfigError, match=r"cls_head.bias should have the shape \(2,\), it has \(9,\)"):
        read_run(run)
    _edit(run, lambda state: state.pop("cls_head.bias"))
    with pytest.raises(ConfigError, match=r"lacks 1 of the .* cls_head.bias"):
        read_run(run)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("model", "core_method"), "point_pillar_fcooper", "expected heter_pyramid_collab, .*, got point_pillar_fcooper, which"),
        (("model", "core_method"), "heter_model_baseline", "missing or empty key 'fusion_method'"),
        (
            ("model", "args", "compressor"),
            {"input_dim": 99, "compress_ratio": 3},
            "expected the 16 channels of the maps, got 99",
        ),
        (
            ("model", "args", "m1", "core_method"),
            "voxelnet",
            "expected one of point_pillar, second, lift_splat_shoot, got 'voxelnet'",
        ),
        (("model", "args", "m2", "aligner_args", "spatial_align"), True, "spatial_align: expected false"),
        (("model", "args", "m2", "encoder_args", "lidar_range"), [-1, -1, -3, 1, 1, 1], "expected one range"),
        (("postprocess", "order"), "lwh", "expected order hwl"),
        (("model", "args", "shrink_header"), None, "HEAL configuration: missing or empty key"),
    ],
)
def test_a_configuration_that_is_not_supported_is_refused(run: Path, path: tuple[str, ...], value: Any, message: str) -> None:
    def change(values: dict[str, Any]) -> None:
        for key in path[:-1]:
            values = values[key]
        values[path[-1]] = value

    _edit_config(run, change)
    with pytest.raises(ConfigError, match=message):
        read_run(run)


def test_settings_that_heal_does_not_have_are_not_exported(tmp_path: Path) -> None:
    narrow = replace(BASE, pyramid=replace(BASE.pyramid, groups=8, base_width=8))
    opened = load_alliance(_write_alliance(tmp_path / "narrow", ("m1",), base=narrow))
    with pytest.raises(ConfigError, match=r"no setting for base\.pyramid\.groups = 8"):
        export_alliance(opened, {"m1": "m1"}, tmp_path / "run")
    with pytest.raises(ConfigError, match="named m1, m2 and so on, got van; rename with --rename van=m1"):
        export_alliance(opened, {"m1": "van"}, tmp_path / "run")
    assert not (tmp_path / "run").exists()
