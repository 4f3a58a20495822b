"""Planted defects: the doctor names each with its file and a remedy, goes on, and leaves out every scene that cannot be read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from heal.datasets.damage import find_damaged
from heal.datasets.damage_list import known_damaged
from heal.datasets.dataset import Dataset
from heal.datasets.doctor.checkup import Checkup, damage_list, verdict
from heal.datasets.doctor.finding import KINDS
from heal.types import SceneOutline, SensorChoice
from tests.datasets.doctor.doctor_dair_tree import write_dair_tree
from tests.datasets.doctor.doctor_tree import write_tree
from tests.datasets.doctor.planted import DAIR, OPV2V, WITHOUT_DEPTH, Defect, names

LIDAR, CAMERAS = SensorChoice(), SensorChoice(lidar=False, cameras=True)


@pytest.fixture(scope="module")
def opv2v(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("opv2v")).parent


@pytest.fixture(scope="module")
def dair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dair_tree(tmp_path_factory.mktemp("dair"))


def examined(root: Path) -> Checkup:
    checkup = Checkup()
    checkup.examine(root)
    return checkup


@pytest.mark.parametrize("layout", ["opv2v", "dair"])
def test_a_sound_data_set_is_usable_and_has_no_warning(layout: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(layout)
    checkup = examined(root / "OPV2V" if layout == "opv2v" else root)
    assert {finding.severity for finding in checkup.findings} == {"note"}
    assert verdict(checkup.splits, checkup.findings) == "usable"
    [split] = checkup.splits
    assert split.installed.lidar and split.installed.cameras and split.best == 6


def test_archives_of_images_that_are_not_unpacked_are_no_damage(dair: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(dair, root)
    for folder in [path for path in root.rglob("image") if path.is_dir()]:
        shutil.rmtree(folder)
    checkup = examined(root)
    assert [finding.kind for finding in checkup.findings if finding.severity != "note"] == []
    assert [finding.path.parent.name for finding in checkup.findings if finding.kind == "archive-missing"] == [
        "vehicle-side",
        "infrastructure-side",
    ]
    [split] = checkup.splits
    assert split.installed.lidar and not split.installed.cameras
    assert verdict(checkup.splits, checkup.findings) == "usable"


@pytest.mark.parametrize("defect", OPV2V, ids=names(OPV2V))
def test_a_defect_in_the_layout_of_opv2v(opv2v: Path, tmp_path: Path, defect: Defect) -> None:
    root = tmp_path / "data"
    shutil.copytree(opv2v, root)
    assert_found(root, root / "OPV2V", defect)


@pytest.mark.parametrize("defect", DAIR, ids=names(DAIR))
def test_a_defect_in_dair_v2x_c(dair: Path, tmp_path: Path, defect: Defect) -> None:
    root = tmp_path / "data"
    shutil.copytree(dair, root)
    assert_found(root, root, defect)


def test_an_image_of_another_size_is_known_by_the_others(opv2v: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(opv2v, root)
    for path in (root / "OPV2V_Hetero").rglob("*_depth?.png"):
        path.unlink()
    assert_found(root, root / "OPV2V", WITHOUT_DEPTH)


def assert_found(root: Path, data: Path, defect: Defect) -> None:
    """Plant a defect, and check that it is found as what it is, and that the scenes left out are those that cannot be read."""
    defect.plant(root)
    checkup = examined(data)
    named = [finding for finding in checkup.findings if finding.kind == defect.kind and finding.path == root / defect.path]
    assert named, [(finding.kind, str(finding.path), finding.found) for finding in checkup.findings]
    assert named[0].expected and named[0].found and named[0].remedy
    with_images = "image" in defect.path.parts or "camera" in defect.path.name
    for split in checkup.splits:
        if split.installed.cameras if with_images else split.installed.lidar:
            assert_agreement(split.source, checkup, CAMERAS if with_images else LIDAR)
    expected = "usable with exceptions" if KINDS[defect.kind].severity == "error" else None
    judged = verdict(checkup.splits, checkup.findings)
    assert judged == ("not usable" if not any(split.best for split in checkup.splits) else expected or judged)


def assert_agreement(source: Dataset, checkup: Checkup, choice: SensorChoice) -> None:
    """Check that every scene that cannot be read with some sensors is on the list, and no other but for what the list names."""

    def reads(outline: SceneOutline) -> list[tuple[str, SensorChoice]]:
        return [(agent_id, choice) for agent_id in outline.agent_ids]

    scenes = range(len(source))
    unreadable = set(find_damaged(source, scenes, reads))
    listed = set(known_damaged(source, scenes, reads, damage_list(checkup.findings)))
    assert unreadable <= listed
    readable = [finding for finding in checkup.findings if finding.kind not in ("missing-file", "damaged-file")]
    assert listed - unreadable == set(known_damaged(source, scenes, reads, damage_list(readable))) - unreadable
