"""`heal convert`: there and back the same scenes, whole or not there, kept when repeated; damage stops it or is left out."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from heal.datasets.dataset import DatasetError
from heal.datasets.files import read_yaml
from heal.datasets.open import open_dataset
from heal.datasets.opv2v.writer import write_scenario
from heal.detection.classes import EVERY_TYPE
from heal.errors import UserError
from heal.tools.cli import app
from heal.tools.converting import recordings
from heal.types import Scene, load_scene
from tests.datasets.dair import dair_tree
from tests.datasets.made_scenes import made_scenes
from tests.tools.command import run_command

ALL = ("lidar", "camera", "depth")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two splits in OPV2V's layout with a scenario each."""
    root = tmp_path / "data"
    write_scenario(made_scenes(), root, "train", "morning")
    write_scenario(made_scenes((0, 10**8)), root, "validate", "evening")
    return root


def files(root: Path, pattern: str) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob(pattern))}


def test_to_bags_and_back_gives_the_same_files(data: Path, tmp_path: Path) -> None:
    output = run_command("convert", data, "--to", "mcap", "--out", tmp_path / "bags")
    assert "2 scenarios (0 existed already), 5 scenes written" in output
    assert {str(path.relative_to(tmp_path / "bags")) for path in (tmp_path / "bags").rglob("*.mcap")} == {
        "train/morning/morning.mcap",
        "validate/evening/evening.mcap",
    }
    run_command("convert", tmp_path / "bags", "--out", tmp_path / "back")
    for pattern in ("*.pcd", "*_camera*.png", "*_depth*.png"):
        assert files(data, pattern) == files(tmp_path / "back", pattern) != {}
    for split, count in (("train", 3), ("validate", 2)):
        first, second = open_dataset(data, split, ALL), open_dataset(tmp_path / "back", split, ALL)
        assert len(first) == len(second) == count
        for index in range(count):
            mine, other = load_scene(first, index), load_scene(second, index)
            assert mine.outline.scene_id == other.outline.scene_id and mine.outline.timestamp_ns == other.outline.timestamp_ns
            np.testing.assert_allclose(mine.objects.world_corners, other.objects.world_corners, rtol=0, atol=1e-6)
            for a, b in zip(mine.frames, other.frames, strict=True):
                np.testing.assert_allclose(a.world_SE3_agent, b.world_SE3_agent, rtol=0, atol=1e-9)
                np.testing.assert_allclose(a.cameras[0].agent_SE3_camera, b.cameras[0].agent_SE3_camera, rtol=0, atol=2e-9)


def test_a_repeated_command_keeps_what_is_there(data: Path, tmp_path: Path) -> None:
    for to, source in (("mcap", data), ("opv2v", tmp_path / "mcap")):
        out = tmp_path / to
        run_command("convert", source, "--to", to, "--out", out)
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
        assert "(2 existed already), 0 scenes written" in run_command("convert", source, "--to", to, "--out", out)
        assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    with pytest.raises(UserError, match=r"was made from .*'png'.* not from .*'raw'.*; remove it or choose another --out"):
        run_command("convert", data, "--to", "mcap", "--images", "raw", "--out", tmp_path / "mcap")
    with pytest.raises(UserError, match="was made from"):
        run_command("convert", data, "--out", tmp_path / "opv2v")


def test_the_checksums_are_those_of_the_files(data: Path, tmp_path: Path) -> None:
    run_command("convert", data, "--split", "val", "--to", "mcap", "--out", tmp_path / "bags")
    [bag] = (path.parent for path in (tmp_path / "bags").rglob("*.mcap"))
    assert bag == tmp_path / "bags" / "validate" / "evening"
    sums = dict(line.split("  ")[::-1] for line in (bag / "SHA256SUMS").read_text().splitlines())
    assert sums == {
        name: hashlib.sha256((bag / name).read_bytes()).hexdigest() for name in ("evening.mcap", "made_from.yaml", "metadata.yaml")
    }


@pytest.mark.parametrize("to", ["opv2v", "mcap"])
def test_an_interrupted_conversion_goes_on_with_the_missing_scenarios(
    data: Path, tmp_path: Path, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(source, index, choice):
        if source.summary.split == "validate" and index == 1:
            raise KeyboardInterrupt
        return load_scene(source, index, choice)

    arguments = ["convert", str(data), "--to", to, "--out", str(tmp_path / "out")]
    with monkeypatch.context() as patch:
        patch.setattr(recordings, "load_scene", interrupted)
        result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 130 and "the same command converts the missing scenarios" in result.output
    made = {path.name for path in (tmp_path / "out").rglob("*") if path.name in ("morning", "evening")}
    assert made == {"morning"} and not any(".partial" in str(path) for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert "2 scenarios (1 existed already), 2 scenes written" in run_command(*arguments)


def test_scenes_that_cannot_be_read_stop_the_conversion_or_are_left_out(data: Path, tmp_path: Path) -> None:
    broken = next((data / "OPV2V/train/morning/7").glob("*4.pcd"))
    broken.write_bytes(broken.read_bytes()[:-10])
    with pytest.raises(DatasetError, match="truncated") as raised:
        run_command("convert", data, "--out", tmp_path / "stopped")
    assert raised.value.path == broken and not (tmp_path / "stopped" / "OPV2V").exists()
    output = run_command("convert", data, "--on-damage", "skip", "--out", tmp_path / "skipped")
    assert "4 scenes written" in output and "left out morning/000004" in output and broken.name in output
    assert len(open_dataset(tmp_path / "skipped", "train")) == 2


def test_dair_becomes_a_right_handed_bag_and_opv2v_layout(tmp_path: Path) -> None:
    root = dair_tree.write_tree(tmp_path / "dair")
    source = open_dataset(root, "train", ("lidar", "camera"))
    run_command("convert", root, "--split", "train", "--to", "mcap", "--out", tmp_path / "bags")
    # The roadside unit's sweep of the pair is 0.7 s older.
    assert "frames of agent roadside without cloud near the ego's" in run_command(
        "convert", tmp_path / "bags", "--out", tmp_path / "near"
    )
    run_command("convert", tmp_path / "bags", "--tolerance-ms", 700, "--out", tmp_path / "through")
    run_command("convert", root, "--split", "train", "--out", tmp_path / "direct")
    first = load_scene(source, 0)
    for out in ("direct", "through"):
        scene = load_scene(open_dataset(tmp_path / out, "train", ("lidar", "camera")), 0)
        assert scene.outline.agent_ids == ("vehicle", "roadside") and scene.outline.timestamp_ns == first.outline.timestamp_ns
        np.testing.assert_allclose(scene.objects.world_corners, first.objects.world_corners, rtol=0, atol=1e-6)
        for mine, other in zip(first.frames, scene.frames, strict=True):
            assert mine.timestamp_ns == other.timestamp_ns and mine.kind == other.kind
            np.testing.assert_array_equal(mine.lidar.points[:, :3], other.lidar.points[:, :3])
            np.testing.assert_array_equal(mine.cameras[0].image, other.cameras[0].image)
            np.testing.assert_allclose(mine.cameras[0].agent_SE3_camera, other.cameras[0].agent_SE3_camera, rtol=0, atol=1e-6)
    made_from = read_yaml(next((tmp_path / "direct").rglob("data_protocol.yaml")))["converted"]
    assert (made_from["layout"], made_from["sensors"]["cameras"], made_from["sensors"]["depth"]) == ("DAIR-V2X-C", True, False)


def test_mistakes_are_named(data: Path, tmp_path: Path) -> None:
    run_command("convert", data, "--split", "train", "--to", "mcap", "--out", tmp_path / "bags")
    bag = tmp_path / "bags" / "train" / "morning"
    with pytest.raises(UserError, match="holds bags already"):
        run_command("convert", bag, "--to", "mcap", "--out", tmp_path / "out")
    with pytest.raises(UserError, match="expected one split"):
        run_command("convert", bag, "--split", "train,test", "--out", tmp_path / "out")
    with pytest.raises(UserError, match="no such split"):
        run_command("convert", data, "--split", "test", "--out", tmp_path / "out")
    with pytest.raises(UserError, match="neither OPV2V's layout"):
        run_command("convert", data / "OPV2V" / "train" / "morning", "--out", tmp_path / "out")
    assert "1 scenarios" in run_command("convert", bag / "morning.mcap", "--split", "test", "--out", tmp_path / "file")
    assert len(open_dataset(tmp_path / "file", "test")) == 3


def test_every_type_goes_to_bags_and_back(tmp_path: Path) -> None:
    scenes = [typed(scene) for scene in made_scenes()]
    write_scenario(scenes, tmp_path / "data", "train", "morning", classes=EVERY_TYPE)
    run_command("convert", tmp_path / "data", "--to", "mcap", "--every-type", "--out", tmp_path / "bags")
    run_command("convert", tmp_path / "bags", "--every-type", "--out", tmp_path / "back")
    first, second = (open_dataset(tmp_path / name, "train", classes=EVERY_TYPE) for name in ("data", "back"))
    for index, scene in enumerate(scenes):
        assert first.scene_objects(index).classes.tolist() == scene.objects.classes.tolist() == [1, 4]
        assert second.scene_objects(index).classes.tolist() == [1, 4]
    run_command("convert", tmp_path / "bags", "--out", tmp_path / "vehicles")
    alone = open_dataset(tmp_path / "vehicles", "train", classes=EVERY_TYPE)
    assert alone.scene_objects(0).ids.tolist() == [301]
    with pytest.raises(UserError, match="was made from"):
        run_command("convert", tmp_path / "bags", "--every-type", "--out", tmp_path / "vehicles")


def typed(scene: Scene) -> Scene:
    """The same scene with a truck and a pedestrian."""
    frames = [replace(frame, objects=replace(frame.objects, classes=frame.objects.ids % 301 * 3 + 1)) for frame in scene.frames]
    return Scene.of(frames, scene.outline.scene_id)
