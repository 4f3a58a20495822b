"""Camera types on data without images: every command says so in the same sentence, before it writes anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from heal.datasets.damage import Reads, require_images
from heal.datasets.dataset import DatasetError
from heal.datasets.open import open_dataset
from heal.tools.shared.paths import CONFIGS
from heal.types import SensorChoice
from tests.datasets.dair import dair_tree
from tests.datasets.opv2v import opv2v_tree
from tests.tools.command import run_command

DEMO = CONFIGS / "demo" / "alliance"
SENTENCE = (
    r"^{root}: no camera image is there for the agents whose types have cameras, expected files such as "
    r"{root}/test/scenario_a/6\d\d/000068_camera0.png; `heal generate --sensors all` writes images, .*; or choose types "
    r"without cameras$"
)


def reads(camera: SensorChoice) -> Reads:
    """Let the last agent of a scene have cameras, and the others a LiDAR."""
    return lambda outline: [(name, camera if name == outline.agent_ids[-1] else SensorChoice()) for name in outline.agent_ids]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the folder of scenes without an image."""
    folder = opv2v_tree.write_tree(tmp_path)
    for path in folder.rglob("*.png"):
        path.unlink()
    return folder


@pytest.mark.parametrize("on_damage", ["stop", "skip"])
@pytest.mark.parametrize("command", ["evaluate", "simulate", "train"])
def test_every_command_says_so(root: Path, command: str, on_damage: str) -> None:
    out = root.parent / "out"
    arguments = {
        "evaluate": ("evaluate", "--alliance", DEMO, "--data", root, "--types", "m2"),
        "simulate": ("simulate", "--alliance", DEMO, "--source", root, "--types", "m1,m2", "--runtime", "local"),
        "train": (
            "train",
            "agent",
            "--type",
            "demo/agents/m2",
            "--base",
            DEMO,
            "--data",
            root,
            "--split",
            "test",
            "--device",
            "cpu",
        ),
    }[command]
    with pytest.raises(DatasetError, match=SENTENCE.format(root=root)):
        run_command(*arguments, "--out", out, "--on-damage", on_damage)
    assert list(root.parent.glob("out*")) == []


def test_one_image_is_enough_for_the_search_of_single_files(root: Path) -> None:
    source, cameras = open_dataset(root, "test"), SensorChoice(lidar=False, cameras=True, labels="camera")
    with pytest.raises(DatasetError, match="no camera image is there"):
        require_images(source, range(2), reads(cameras))
    require_images(source, range(2), reads(SensorChoice()))
    require_images(source, (), reads(cameras))
    (root / "test" / "scenario_a" / "641" / "000068_camera0.png").touch()  # of the agent with a LiDAR
    with pytest.raises(DatasetError, match="no camera image is there"):
        require_images(source, range(2), reads(cameras))
    (root / "test" / "scenario_a" / "650" / "000070_camera0.jpg").touch()
    require_images(source, range(2), reads(cameras))


def test_metadata_without_cameras_and_missing_pictures_of_dair_are_told(root: Path, tmp_path: Path) -> None:
    cameras = SensorChoice(lidar=False, cameras=True)
    for path in root.rglob("*.yaml"):
        path.write_text(path.read_text().replace("camera0", "other0"))
    with pytest.raises(DatasetError, match="types have cameras, no agent lists any; `heal generate"):
        require_images(open_dataset(root, "test"), range(2), reads(cameras))
    dair = dair_tree.write_tree(tmp_path / "dair")
    source = open_dataset(dair, "val")
    require_images(source, range(len(source)), reads(cameras))
    for path in dair.rglob("*.jpg"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"expected files such as .*infrastructure-side/image/\d+.jpg"):
        require_images(source, range(len(source)), reads(cameras))
