"""Encoders from outside of the package: in files, modules and installed packages, and alliances whose encoder is not installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import heal.plugin_files as plugin_files
from heal.agent_model import AgentConfig, AgentModel, known_encoders
from heal.alliance import AllianceError, TrainingRecord, load_alliance, save_agent
from heal.base_model import BaseConfig, BaseModel
from heal.config import ConfigError, build_config, kinds_of, to_plain
from heal.errors import UserError
from heal.fusion.table import known_fusions
from heal.plugins import VARIABLE, load_plugins, plugins_in_use, use_plugins
from heal.tools.shared.made_by import read_made_by, split_command
from tests.agents.tiny_run import GRID, TinySource, save_tiny_alliance
from tests.tools.command import run_command

PLUGIN = '''
"""An encoder that counts the points in every cell."""

from typing import ClassVar, Literal

import numpy as np
import torch

from heal.config import config


@config
class CountConfig:
    senses: ClassVar[str] = "lidar"
    kind: Literal["count"] = "count"
    out_channels: int = 8


class Count(torch.nn.Module):
    cell_m = (0.4, 0.4)

    def __init__(self, settings, grid):
        super().__init__()
        self.grid, self.mix = grid, torch.nn.Conv2d(1, settings.out_channels, 3, padding=1)

    def prepare(self, frames, rng=None):
        x_min, y_min, _, x_max, y_max, _ = self.grid.range_m
        bins = [np.arange(y_min, y_max + 0.2, 0.4), np.arange(x_min, x_max + 0.2, 0.4)]
        counts = [np.histogram2d(*frame.lidar.points[:, 1::-1].T, bins)[0] for frame in frames]
        return torch.from_numpy(np.stack(counts)[:, None]).float()

    def forward(self, counts):
        return self.mix(counts)


ENCODERS = {CountConfig: Count}
'''
FUSION = '''
"""The mean of the agents' maps."""

from typing import Literal

from heal.config import config
from heal.fusion.map_fusion import MapFusion, MapFusionConfig


@config
class MeanConfig(MapFusionConfig):
    kind: Literal["mean"] = "mean"


class MeanFusion(MapFusion):
    def fuse_scene(self, scene):
        return scene.maps.mean(dim=0, keepdim=True)


FUSIONS = {MeanConfig: MeanFusion}
'''
TYPE = {"encoder": {"kind": "count"}, "backbone": {"blocks": [1], "strides": [2], "channels": [8]}}
MISSING = r"encoder 'count' is not installed: heal --plugin FILE, or install the package that brings it"


def uninstall() -> None:
    """Forget all plugins, as if this process had begun without them."""
    load_plugins.cache_clear()
    plugin_files.__path__.clear()
    for name in [name for name in sys.modules if name.startswith(f"{plugin_files.__name__}.") or name == "tests_outside_plugin"]:
        del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the working folder, with the plugin count.py."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "")
    (tmp_path / "count.py").write_text(PLUGIN)
    uninstall()
    yield tmp_path
    uninstall()


def save_counting_alliance(path: Path) -> None:
    """Save the tiny alliance with a type `counting`, whose encoder is that of the plugin."""
    save_tiny_alliance(path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AgentModel(build_config(AgentConfig, TYPE), GRID).eval()
    save_agent(path, "counting", model, load_alliance(path).base_hash, TrainingRecord())


def kinds() -> list[str]:
    return [kind for settings in known_encoders() for kind in kinds_of(settings)]


def test_a_file_adds_an_encoder_to_this_process_and_to_its_children(folder: Path) -> None:
    before = kinds()
    use_plugins(["count.py"])
    assert kinds() == [*before, "count"] and plugins_in_use() == (str(folder / "count.py"),)
    settings = build_config(AgentConfig, TYPE)
    assert build_config(AgentConfig, to_plain(settings)) == settings
    model = AgentModel(settings, GRID)
    assert model(model.prepare([TinySource().agent_frame(0, "b")])).shape == (1, 8, GRID.ny, GRID.nx)
    with pytest.raises(ConfigError, match=r"encoder\.count\.out_chanels: unknown key; did you mean 'out_channels'\?"):
        build_config(AgentConfig, {"encoder": {"kind": "count", "out_chanels": 3}})


def test_the_variable_lists_plugins_by_paths_from_the_working_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "widths.py").write_text("WIDTH = 8\n")
    (folder / "second.py").write_text(
        "from .widths import WIDTH\n" + PLUGIN.replace('"count"', '"beside"').replace("= 8", "= WIDTH")
    )
    monkeypatch.setenv(VARIABLE, f"count.py{os.pathsep}second.py")
    assert "count, beside" in " ".join(run_command("info").split())
    assert plugins_in_use() == (str(folder / "count.py"), str(folder / "second.py"))


def test_an_unknown_kind_names_the_known_ones_and_the_remedy(folder: Path) -> None:
    with pytest.raises(
        ConfigError, match=f"{MISSING}; installed are point_pillars, second, lift_splat, voxel_net, pixor, point_transformer, both$"
    ):
        build_config(AgentConfig, TYPE)
    with pytest.raises(ConfigError, match=r"encoder 'point_pilars' is not installed: .*; did you mean 'point_pillars'\?"):
        build_config(AgentConfig, {"encoder": {"kind": "point_pilars"}})


def test_settings_that_no_table_has_are_refused(folder: Path) -> None:
    use_plugins(["count.py"])
    settings = build_config(AgentConfig, TYPE)
    uninstall()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match="CountConfig is in no table of encoders"):
        patch.setenv(VARIABLE, "")
        AgentModel(settings, GRID)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def broken(:\n", r"faulty\.py cannot be loaded: SyntaxError: .* \(faulty\.py, line 1\)"),
        ("import torch\n\nnames.append(1)\n", r"cannot be loaded: NameError: name 'names' is not defined \(line 3\)"),
        ("TABLE = {}\n", r"expected a table ENCODERS = {MyConfig: MyEncoder} or FUSIONS = {MyConfig: MyFusion}, found none"),
        ("ENCODERS = [1]\n", r"or FUSIONS = {MyConfig: MyFusion}, found {'ENCODERS': \[1\]}"),
        (
            PLUGIN.replace("ENCODERS =", "FUSIONS ="),
            r"expected classes with trunk and level_shapes and fuse_scored and join as values",
        ),
        (
            FUSION.replace("class MeanConfig(MapFusionConfig)", "class MeanConfig"),
            "MeanConfig: expected strides and upsample_strides and foreground, as MapFusionConfig",
        ),
        ("ENCODERS = {'count': int}\n", r"expected classes made by @config of heal.config as keys of ENCODERS, got 'count'"),
        (PLUGIN.replace('Literal["count"]', "str"), r"CountConfig: expected a field kind: Literal\['my_kind'\]"),
        (PLUGIN.replace('Literal["count"]', '"Letters"'), r"a field cannot be read: name 'Letters' is not defined"),
        (PLUGIN.replace('"lidar"', '"radar"'), r"CountConfig: expected senses: .* one of lidar, camera, both, got 'radar'"),
        (PLUGIN.replace("out_channels: int", "channels: int"), r"CountConfig: expected out_channels"),
        (
            PLUGIN.replace("def prepare", "def ready"),
            r"expected classes with prepare and forward as values of ENCODERS",
        ),
        (PLUGIN.replace('"count"', '"second"'), r"^heal itself and the plugin .*faulty\.py both bring the encoder 'second'"),
    ],
)
def test_a_faulty_plugin_is_one_sentence(folder: Path, text: str, message: str) -> None:
    (folder / "faulty.py").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        use_plugins(["faulty.py"])
        known_encoders()
    assert "\n" not in str(caught.value)


def test_what_is_no_plugin_is_refused(folder: Path) -> None:
    for name, message in {"missing.py": "no such file", "no.such.module": "cannot be loaded: ModuleNotFoundError"}.items():
        with pytest.raises(UserError, match=f"plugin {name}:? {message}"):
            use_plugins([name])
    (folder / "my-count.py").write_text(PLUGIN)
    with pytest.raises(UserError, match=r"my-count\.py: expected a name such as my_encoder\.py"):
        use_plugins(["my-count.py"])
    assert plugins_in_use() == ()


def test_two_plugins_of_one_kind_or_name_are_refused_and_one_named_twice_is_not(folder: Path) -> None:
    (folder / "again.py").write_text(PLUGIN)
    (folder / "other").mkdir()
    (folder / "other" / "count.py").write_text(PLUGIN)
    use_plugins(["count.py", str(folder / "count.py"), "other/../count.py"])
    assert kinds().count("count") == 1
    with pytest.raises(UserError, match=r"other/count\.py: .*count\.py has the same name and was loaded in its place"):
        use_plugins(["other/count.py"])
    use_plugins(["again.py"])
    with pytest.raises(UserError, match=r"plugin .*count\.py and the plugin .*again\.py both bring the encoder 'count'"):
        known_encoders()


def test_an_installed_package_brings_an_encoder_by_its_entry_point(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    (folder / "tests_outside_plugin.py").write_text(PLUGIN)
    record = folder / "outside-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (record / "entry_points.txt").write_text("[heal.encoders]\ncount = tests_outside_plugin\n")
    assert "count" in kinds()
    use_plugins(["tests_outside_plugin"])  # the same module once more
    assert kinds().count("count") == 1
    monkeypatch.setenv(VARIABLE, "")
    uninstall()
    (folder / "tests_outside_plugin.py").write_text("1 / 0\n")
    with pytest.raises(UserError, match="of the installed package outside cannot be loaded: ZeroDivisionError"):
        kinds()


def test_an_alliance_opens_without_the_plugin_and_names_the_type(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_plugins(["count.py"])
    save_counting_alliance(folder / "alliance")
    assert "count, " not in run_command("info") and "cannot be used" not in run_command("info", "alliance")
    monkeypatch.setenv(VARIABLE, "")
    uninstall()
    opened = load_alliance(folder / "alliance")
    assert opened.agent_names == ("m1",) and opened.agent("m1") is not None
    with pytest.raises(AllianceError, match=rf"counting.agent\.yaml: config\.{MISSING}"):
        opened.agent("counting")
    described = run_command("info", "alliance")
    assert f"counting cannot be used: alliance/counting/agent.yaml: config.{MISSING}" in described
    options = ("--alliance", "alliance", "--preset", "test", "--ticks", 1, "--runtime", "local")
    run_command("simulate", *options, "--types", "m1", "--out", "others")
    with pytest.raises(UserError, match=MISSING):
        run_command("simulate", *options, "--types", "m1,counting", "--out", "with")


RUN = ("--alliance", "alliance", "--types", "m1,counting", "--preset", "test", "--ticks", 2)


def test_a_run_records_its_plugin_and_a_rerun_loads_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_plugins(["count.py"])
    save_counting_alliance(folder / "alliance")
    for command in (("--plugin", "count.py", "simulate", *RUN, "--runtime", "local", "--out", "run"), ("rerun", "../run")):
        monkeypatch.setenv(VARIABLE, "")
        uninstall()
        output = run_command(*command)
        (folder / "elsewhere").mkdir(exist_ok=True)
        monkeypatch.chdir(folder / "elsewhere")  # the path starts where the command was run
    assert "AP is equal" in output
    for name in ("run", "run-2"):
        made_by = read_made_by(folder / name)
        assert made_by is not None and split_command(made_by.command)[0] == ["count.py"]


@pytest.mark.ray
def test_the_processes_of_ray_load_the_plugin(folder: Path) -> None:
    use_plugins(["count.py"])
    save_counting_alliance(folder / "alliance")
    for runtime in ("local", "ray"):
        run_command("simulate", *RUN, "--runtime", runtime, "--out", runtime)
    assert (folder / "ray" / "ticks.jsonl").read_bytes() == (folder / "local" / "ticks.jsonl").read_bytes()


def test_a_file_adds_a_fusion(folder: Path) -> None:
    settings = {"in_channels": 8, "fusion": {"kind": "mean"}}
    with pytest.raises(ConfigError, match=r"fusion 'mean' is not installed: heal --plugin FILE"):
        build_config(BaseConfig, settings)
    (folder / "mean.py").write_text(FUSION)
    use_plugins(["mean.py"])
    base = BaseModel(build_config(BaseConfig, settings))
    assert build_config(BaseConfig, to_plain(base.config)) == base.config
    grid, poses = base.config.grid, torch.eye(4, dtype=torch.float64).expand(2, 4, 4)
    maps = torch.stack([torch.zeros(8, grid.ny, grid.nx), torch.ones(8, grid.ny, grid.nx)])
    assert bool((base.fuse(base.trunk(maps), poses, (2,)) == 0.5).all())


def test_a_fusion_of_a_plugin_that_is_there_already_is_refused(folder: Path) -> None:
    (folder / "mean.py").write_text(FUSION.replace('"mean"', '"f_cooper"'))
    use_plugins(["mean.py"])
    with pytest.raises(UserError, match=r"heal itself and the plugin .* both bring the fusion 'f_cooper'"):
        known_fusions()
