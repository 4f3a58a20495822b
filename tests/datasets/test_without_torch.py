"""Reading scenes needs no torch: each test blocks the import of torch in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datasets.dair import dair_tree
from tests.datasets.opv2v import opv2v_tree
from tests.real_data import REPOSITORY, real_data

BLOCK = "import sys; sys.modules['torch'] = None"
IMPORT_ALL = """
from importlib import import_module
for name in sys.argv[1:]:
    import_module(name)
"""
# Print for each agent of the first scene: id, points, cameras, labels, labels that the cameras see.
READ = """
from pathlib import Path
from heal.datasets.open import open_dataset
from heal.types import SensorChoice, load_scene

source = open_dataset(Path(sys.argv[1]), sys.argv[2], ("lidar", "camera"), cache=Path(sys.argv[3]))
for frame in load_scene(source, 0).frames:
    seen = source.agent_frame(0, frame.agent_id, SensorChoice(lidar=False, labels="camera"))
    print(frame.agent_id, len(frame.lidar.points), len(frame.cameras), len(frame.objects), len(seen.objects))
"""
WRITE_TOWN = """
from pathlib import Path
from heal.datasets.town import TownSource
from heal.datasets.town.opv2v_writer import write_opv2v

write_opv2v(TownSource("test", seed=0, ticks=1, sensors=frozenset({"lidar", "camera"})), Path(sys.argv[1]))
"""


def run(code: str, *arguments: object) -> str:
    """Run code in a fresh process in which torch cannot be imported; return what it prints."""
    command = [sys.executable, "-c", f"{BLOCK}\n{code}", *map(str, arguments)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_first_scene(root: Path, split: str, cache: Path) -> dict[str, list[int]]:
    """Read the first scene of a data set; return for each agent the numbers that `READ` prints."""
    rows = [line.split() for line in run(READ, root, split, cache).splitlines()]
    return {agent_id: [int(number) for number in numbers] for agent_id, *numbers in rows}


def test_no_module_imports_torch() -> None:
    paths = sorted((REPOSITORY / "datasets").rglob("*.py"))
    names = [".".join(("heal", *path.relative_to(REPOSITORY).with_suffix("").parts)) for path in paths]
    assert "heal.datasets.town.opv2v_writer" in names
    run(IMPORT_ALL, *(name.removesuffix(".__init__") for name in names))


def test_opv2v_with_visibility_maps(tmp_path: Path) -> None:
    root = opv2v_tree.write_tree(tmp_path, stamps=("000068",))
    ahead = np.zeros((256, 256), np.uint8)
    ahead[:115] = 255  # from 4.7 m ahead on: of an agent's two vehicles, 0 and 10 m ahead, the second
    for agent_id in ("641", "650"):
        place = root / "additional" / "test" / "scenario_a" / agent_id
        place.mkdir(parents=True)
        Image.fromarray(ahead).save(place / "000068_bev_visibility.png")
    assert read_first_scene(root, "test", tmp_path / "cache") == {"641": [3, 1, 2, 1], "650": [3, 1, 2, 1]}


def test_opv2v_without_visibility_maps(tmp_path: Path) -> None:
    root = opv2v_tree.write_tree(tmp_path, agents=(), stamps=())
    seen = {300: opv2v_tree.vehicle(42.0, 6.0), 301: opv2v_tree.vehicle(44.0, 6.0)}  # the second ends 46 m ahead, beyond 45 m
    opv2v_tree.write_frame(root / "test" / "scenario_a" / "641", "000068", opv2v_tree.metadata(vehicles=seen))
    assert read_first_scene(root, "test", tmp_path / "cache") == {"641": [3, 1, 2, 1]}


def test_dair(tmp_path: Path) -> None:
    found = read_first_scene(dair_tree.write_tree(tmp_path), "train", tmp_path / "cache")
    assert found == {"vehicle": [1, 1, 2, 2], "roadside": [1, 1, 2, 2]}


@pytest.mark.real
def test_real_dair(tmp_path: Path) -> None:
    found = read_first_scene(real_data("dair_v2x_example"), "train", tmp_path / "cache")
    assert list(found) == ["vehicle", "roadside"]
    assert all(points > 50_000 and (cameras, seen) == (1, labels) for points, cameras, labels, seen in found.values())


def test_the_town_is_sensed_written_and_read(tmp_path: Path) -> None:
    run(WRITE_TOWN, tmp_path)
    found = read_first_scene(tmp_path, "test", tmp_path / "cache")
    assert len(found) > 1
    assert all(points > 1000 and 0 < seen < labels for points, _, labels, seen in found.values())
