"""Damage in V2V4Real, V2X-Real and CooperScene: what is missing or damaged is handled as in OPV2V."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from heal.datasets.damage import find_damaged, require_files
from heal.datasets.dataset import DatasetError
from heal.datasets.open import open_dataset
from heal.types import SceneOutline, SensorChoice
from tests.datasets.cooperscene.cooperscene_tree import cooperscene_frames, write_cooperscene
from tests.datasets.v2v4real.v2v4real_tree import v2v4real_frames, write_v2v4real
from tests.datasets.v2xreal.v2xreal_tree import v2xreal_frames, write_v2xreal

WRITERS: dict[str, Callable[[Path], Path]] = {
    "V2V4Real": lambda root: write_v2v4real(root, v2v4real_frames()),
    "V2X-Real": lambda root: write_v2xreal(root, v2xreal_frames()),
    "CooperScene": lambda root: write_cooperscene(root, cooperscene_frames()),
}


@pytest.fixture(scope="module", params=WRITERS)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of one of the data sets, which no test changes."""
    return WRITERS[request.param](tmp_path_factory.mktemp("written"))


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """A tree of one of the data sets."""
    return Path(shutil.copytree(written, tmp_path / written.name))


def last_file(root: Path, endings: str) -> Path:
    """Return the last file with one of some endings: the last frame of the last agent in the order of the names."""
    return max(path for path in root.rglob("*") if path.suffix in endings.split())


def clouds(outline: SceneOutline) -> list[tuple[str, SensorChoice]]:
    """Read the clouds of all agents."""
    return [(agent_id, SensorChoice()) for agent_id in outline.agent_ids]


def test_a_frame_without_partner_stays_and_is_told(root: Path) -> None:
    path = last_file(root, ".yaml")
    path.unlink()
    source = open_dataset(root, "test")
    agent_id = path.parent.name
    assert len(source) == 2 or agent_id == source.outline(0).ego_id
    assert [agent_id in source.outline(index).agent_ids for index in range(2)] == [True, False]
    told = [reason for part, reason in source.summary.skipped if part.endswith(f"/{agent_id}")]
    assert told == [f"1 frames that agent {agent_id} lacks, from {path.stem}"]


def test_a_missing_cloud_stops_a_run_before_it_begins(root: Path) -> None:
    path = last_file(root, ".pcd .bin")
    path.unlink()
    source = open_dataset(root, "test")
    with pytest.raises(DatasetError, match=rf"{path.stem}\..*: no such file.*--on-damage skip"):
        require_files(source, range(2), clouds)
    assert list(find_damaged(source, range(2), clouds)) == [1]


@pytest.mark.parametrize("endings", [".yaml", ".pcd .bin"])
def test_a_truncated_file_costs_its_scene_alone(root: Path, endings: str) -> None:
    path = last_file(root, endings)
    path.write_bytes(path.read_bytes()[:1501])
    source = open_dataset(root, "test")
    damaged = find_damaged(source, range(2), clouds)
    assert list(damaged) == [1] and path.name in damaged[1][1]


def test_a_frame_without_labels_stops_or_is_left_out(root: Path) -> None:
    path = last_file(root, ".yaml")
    path.write_text(path.read_text().replace("\nvehicles:", "\nothers:"))
    with pytest.raises(DatasetError, match="no labels: it has no entry 'vehicles'"):
        open_dataset(root, "test")
    source = open_dataset(root, "test", on_damage="skip")
    assert (len(source), source.summary.damaged) == (1, 1)
