"""`heal convert --to cache`: later runs read no file of the data set but their sizes and times; repeated, it goes on."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from typer.testing import CliRunner

from heal.datasets.cache import filling, kept
from heal.datasets.cache.source import CachedSource
from heal.datasets.dataset import DatasetError
from heal.datasets.open import open_dataset
from heal.datasets.opv2v.writer import write_scenario
from heal.errors import UserError
from heal.tools.cli import app
from heal.types import SensorChoice
from tests.datasets.made_scenes import made_scenes
from tests.tools.command import run_command

CHOICES = (SensorChoice(), SensorChoice(lidar=False, cameras=True, depth=True, labels="camera"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Five scenes in each of two splits."""
    for split in ("train", "validate"):
        write_scenario(made_scenes(tuple(range(0, 5 * 10**8, 10**8))), tmp_path / "data", split, "drive")
    return tmp_path / "data"


def entries(folder: Path, kind: str = "*") -> dict[Path, int]:
    """Return the entries of a cache, with the time of the last change."""
    return {path: path.stat().st_mtime_ns for path in folder.glob(f"*/*.{kind}")}


def require_filled(data: Path, folder: Path, split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that the scenes of a split are read from the cache alone."""

    def fail(*_: object) -> None:
        raise AssertionError("read from the data set although it is in the cache")

    source = open_dataset(data, split, cache=folder)
    assert isinstance(source, CachedSource)
    with monkeypatch.context() as patch:
        for name in ("outline", "agent_frame", "scene_objects"):
            patch.setattr(source.source, name, fail)
        for index in range(len(source)):
            source.scene_objects(index)
            for agent_id in source.outline(index).agent_ids:
                for choice in CHOICES:
                    source.agent_frame(index, agent_id, choice)


def test_processes_fill_a_cache_from_which_runs_read(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "cache"
    output = run_command("convert", data, "--to", "cache", "--out", out, "--workers", 2)
    assert f"{out}: 10 scenes are kept; 0.000" in output
    for split in ("train", "validate"):
        require_filled(data, out, split, monkeypatch)
    before = entries(out)
    assert "10 scenes are kept" in run_command("convert", data, "--to", "cache", "--out", out, "--workers", 1)
    assert entries(out) == before


def test_an_interrupted_conversion_goes_on(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: filling.Filling, index: int) -> list[DatasetError]:
        if index == 2:
            raise KeyboardInterrupt
        return keep(self, index)

    keep, out = filling.Filling._errors, tmp_path / "cache"
    arguments = ["convert", str(data), "--split", "val", "--to", "cache", "--out", str(out), "--workers", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(filling.Filling, "_errors", interrupted)
        result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 130 and "the same command goes on from there" in result.output
    before = entries(out)
    assert len(entries(out, "images")) == 4
    assert "5 scenes are kept" in run_command(*arguments)
    assert len(entries(out, "images")) == 10 and before.items() <= entries(out).items()


def test_damage_stops_the_conversion_or_is_left_out(data: Path, tmp_path: Path) -> None:
    broken = min(data.rglob("validate/drive/7/*_camera0.png"))
    broken.write_bytes(b"no image")
    arguments = ("convert", data, "--split", "validate", "--to", "cache", "--out", tmp_path / "cache", "--workers", 1)
    with pytest.raises(DatasetError, match="not a readable image") as raised:
        run_command(*arguments)
    assert raised.value.path == broken
    output = run_command(*arguments, "--on-damage", "skip")
    assert "left out of drive/000000" in output and broken.name in output
    assert "5 scenes are kept, 1 of them in part" in output and len(entries(tmp_path / "cache", "images")) == 9


def test_only_some_sensors_and_raw_images(data: Path, tmp_path: Path) -> None:
    sizes = {}
    for images in ((), ("--images", "raw")):
        out = tmp_path / f"cache{len(images)}"
        run_command(
            "convert", data, "--split", "val", "--to", "cache", "--out", out, "--sensors", "camera", "--workers", 1, *images
        )
        assert not entries(out, "depth") and len(entries(out, "images")) == 10
        sizes[len(images)] = sum(path.stat().st_size for path in entries(out, "images"))
    assert sizes[0] != sizes[2]
    for words, message in (
        (("--to", "cache", "--sensors", "radar"), "--sensors: expected lidar, camera, depth, got 'radar'"),
        (("--to", "cache", "--images", "jpeg"), "--images jpeg: a cache keeps every pixel as it is"),
        (("--sensors", "lidar"), "--sensors chooses what goes to a cache"),
    ):
        with pytest.raises(UserError, match=message):
            run_command("convert", data, "--out", tmp_path / "wrong", *words)
    assert not (tmp_path / "wrong").exists()


def test_a_full_disk_ends_it_with_one_line(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(kept, "write_entry", full)
    with pytest.raises(UserError, match=r"cache cannot be written: No space left on device.*repeat the command"):
        run_command("convert", data, "--to", "cache", "--out", tmp_path / "cache", "--workers", 1)
