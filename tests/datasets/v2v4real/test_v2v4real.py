"""The reader of V2V4Real: what was written from the town is read back, and the ids of objects that one vehicle alone knows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from heal.datasets.dataset import DatasetError
from heal.datasets.open import open_dataset
from heal.datasets.opv2v.metadata import read_metadata
from heal.datasets.v2v4real.metadata import AGENT_IDS, parse_v2v4real
from heal.errors import UserError
from heal.types import ObjectLabels
from tests.datasets.road_scenes import assert_as_sensed, assert_same_boxes, write_metadata
from tests.datasets.v2v4real.v2v4real_tree import RECORDING, metadata, v2v4real_frames, write_v2v4real

RED_STEP = 0.5 / 255 + 1e-6


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_v2v4real(tmp_path_factory.mktemp("v2v4real"), v2v4real_frames())


def test_scenes_are_those_that_were_written(root: Path) -> None:
    frames = v2v4real_frames()
    source = open_dataset(root, "test")
    assert source.summary.layout == "V2V4Real" and "2 frames in 1 scenarios, 2 agents" in str(source.summary)
    assert_as_sensed(source, frames, RED_STEP)
    frame = source.agent_frame(1, "1")
    assert frame.timestamp_ns - source.outline(0).timestamp_ns == 100_000_000
    assert frame.kind == "vehicle" and frame.lidar is not None and frame.lidar.beams == 32


def test_the_poses_are_written_with_tags_of_numpy(root: Path) -> None:
    text = (root / "test" / RECORDING / "0" / "000000.yaml").read_text()
    assert "multiarray._reconstruct" in text and "multiarray.scalar" in text
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load(text)


def test_objects_that_nobody_associated_are_merged_where_they_overlap(tmp_path: Path) -> None:
    frames = v2v4real_frames()
    root = write_v2v4real(tmp_path, frames, associated=False)
    parts = [own[0].frame.objects for own in frames.values()]
    true = ObjectLabels.union(parts)
    doubled = sum(map(len, parts))
    assert len(true) < doubled
    assert len(open_dataset(root, "test").scene_objects(0)) == doubled
    merged = open_dataset(root, "test", ground_truth="merged")
    assert_same_boxes(merged.scene_objects(0), true)
    assert "each agent's own labels, merged ground truth" in str(merged.summary)


def test_a_number_that_occurs_twice_is_common_once() -> None:
    frame = v2v4real_frames()["1"][0]
    values = metadata(frame, set())
    for entry in values["vehicles"].values():
        entry["ass_id"] = 7
    found = parse_v2v4real(values, "1").objects
    assert found.ids.tolist() == [7, *(2 * AGENT_IDS + number for number in range(1, len(frame.objects)))]


def test_angles_in_degrees_and_vehicles_without_number_are_refused(tmp_path: Path) -> None:
    values = metadata(v2v4real_frames()["1"][0], set())
    values["vehicles"] = {0: values["vehicles"][0] | {"angle": [0.0, 90.0, 0.0]}}
    for name, cause in (("1", "object 0: angle: expected radians"), ("tesla", "the vehicle's folder: expected a whole number")):
        write_metadata(tmp_path / name / "000000.yaml", values, yaml.Dumper)
        with pytest.raises(DatasetError, match=rf"{name}/000000\.yaml: {cause}"):
            read_metadata(tmp_path / name / "000000", parse_v2v4real)


def test_the_data_set_is_recognised_by_an_entry_too(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "test" / "2021_08_22_21_41_24"
    shutil.copytree(root / "test" / RECORDING, other)
    assert open_dataset(tmp_path, "test").summary.layout == "V2V4Real"
    for path in other.rglob("*.yaml"):
        path.write_text(path.read_text().replace("ass_id", "other"))
    assert open_dataset(tmp_path, "test").summary.layout == "OPV2V"
    with pytest.raises(UserError, match="is a rule for DAIR-V2X-C and V2V4Real, and this is OPV2V"):
        open_dataset(tmp_path, "test", ground_truth="merged")
