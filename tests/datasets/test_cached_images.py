"""Images in the cache: equal to the files' to the last bit, never wrong and never an error, whatever the entries hold."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zstandard
from PIL import Image

from heal.datasets.cache import pixels
from heal.datasets.cache.cameras import depth_codec
from heal.datasets.cache.entry_file import crc32, read_entry, write_entry
from heal.datasets.cache.filling import Filling, choices_of
from heal.datasets.cache.kept import CacheNotWritten
from heal.datasets.cache.pixels import keep_pixels, kept_pixels
from heal.datasets.cache.source import CachedSource
from heal.datasets.dataset import Dataset, DatasetError
from heal.datasets.files import write_depth
from heal.datasets.open import open_dataset
from heal.datasets.opv2v import metadata
from heal.datasets.opv2v.writer import write_scenario
from heal.detection.classes import EVERY_TYPE
from heal.types import AgentFrame, SensorChoice
from tests.datasets.dair import dair_tree
from tests.datasets.made_scenes import made_scenes
from tests.long.mutations import mutated_bytes, mutated_text
from tests.real_data import real_data

IMAGES = SensorChoice(lidar=False, cameras=True, labels="camera")
DEPTH = replace(IMAGES, depth=True)
EVERYTHING = SensorChoice(cameras=True, depth=True)
CHOICES = (SensorChoice(), IMAGES, DEPTH, EVERYTHING, SensorChoice(cameras=True))
SENSORS = ("lidar", "camera", "depth")


@pytest.fixture
def town(tmp_path: Path) -> Path:
    """Two scenes of two agents in OPV2V's layout, with images and depth."""
    write_scenario(made_scenes()[:2], tmp_path / "data", "test", "drive")
    return tmp_path / "data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def bits(frame: AgentFrame) -> list[object]:
    """Return all values of a frame, arrays as bytes with type and shape."""
    arrays = [frame.world_SE3_agent, frame.world_SE3_agent_measured, frame.objects.ids, frame.objects.world_corners]
    values: list[object] = [frame.agent_id, frame.kind, frame.timestamp_ns, frame.lidar and frame.lidar.beams]
    arrays += [frame.lidar.points] if frame.lidar else []
    for view in frame.cameras:
        values += [view.name, view.depth_m is None]
        arrays += [view.image, view.intrinsic, view.agent_SE3_camera, *([] if view.depth_m is None else [view.depth_m])]
    return values + [(array.dtype.str, array.shape, array.tobytes()) for array in arrays]


def frames(source: Dataset, choices: Iterable[SensorChoice] = CHOICES) -> list[list[object]]:
    reads = [(index, agent_id) for index in range(len(source)) for agent_id in source.listed(index).agent_ids]
    return [bits(source.agent_frame(index, agent_id, choice)) for index, agent_id in reads for choice in choices]


def cached(root: Path, folder: Path, split: str = "test") -> CachedSource:
    source = open_dataset(root, split, cache=folder)
    assert isinstance(source, CachedSource)
    return source


def forbid_reading(source: CachedSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every reading of the data set's files fail, that of metadata too."""

    def fail(*_: object) -> None:
        raise AssertionError("read from the data set although it is in the cache")

    monkeypatch.setattr(source.source, "agent_frame", fail)
    monkeypatch.setattr(metadata, "_read_cached", fail)


def entries(folder: Path, kind: str = "*") -> dict[Path, bytes]:
    paths = sorted(path for path in folder.glob(f"*/*.{kind}") if not path.name.startswith("."))
    return {path: path.read_bytes() for path in paths}


def sealed(data: bytes) -> bytes:
    """Return the bytes of an entry under a checksum and a length that are right."""
    return data[:16] + struct.pack("<IQ4x", crc32(data[32:]), len(data)) + data[32:]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_pixels_of_any_type_and_shape_come_back(packed: bool, dtype: type[np.unsignedinteger]) -> None:
    rng = np.random.default_rng(0)
    for shape in ((12, 16, 3), (7, 5), (1, 1), (1, 9, 3), (9, 1), (0, 4, 3), (4, 0)):
        smooth = np.cumsum(rng.integers(-3, 4, shape), axis=0) if rng.random() < 0.5 else rng.integers(0, 2**32, shape)
        image = smooth.astype(dtype)
        found = kept_pixels(keep_pixels(image, packed=packed), shape, dtype)
        assert found.dtype == image.dtype and np.array_equal(found, image)


def test_a_smooth_image_is_packed_small_and_one_of_many_rows_is_kept_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    ramp = np.add.outer(np.arange(64), np.arange(256)).astype(np.uint8)
    assert keep_pixels(ramp, packed=True).nbytes < ramp.nbytes / 20
    monkeypatch.setattr(pixels, "MOST_ROWS", 63)
    packed = keep_pixels(ramp[:63], packed=True)
    assert keep_pixels(ramp, packed=True) is ramp and packed.ndim == 1
    monkeypatch.setattr(pixels, "MOST_ROWS", 62)
    with pytest.raises(ValueError, match="expected the shape of a packed image"):
        kept_pixels(packed, (63, 256), np.uint8)


def test_what_is_no_packed_image_is_refused() -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    packed = keep_pixels(image, packed=True)
    for shape in ((4, 4), (4, 5, 3), (2, 2, 2, 6), (-4, -4, 3), (1 << 13, 1 << 13, 3)):
        with pytest.raises(ValueError, match="expected"):
            kept_pixels(packed, shape, np.uint8)
    bomb = np.frombuffer(zstandard.ZstdCompressor().compress(bytes(1 << 22)), np.uint8)
    endless = np.frombuffer(zstandard.ZstdCompressor(write_content_size=False).compress(bytes(48)), np.uint8)
    for wrong in (bomb, endless, packed[:-1], packed[:0], np.append(packed, packed[:1]), image.astype(np.uint16), image[0]):
        with pytest.raises(ValueError, match=r"expected|not a packed image"):
            kept_pixels(wrong, image.shape, np.uint8)


@pytest.mark.parametrize("packed", [True, False])
def test_hit_and_miss_are_what_the_data_set_gives_to_the_last_bit(
    town: Path, folder: Path, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    dair = dair_tree.write_tree(town / "dair")
    for root, split in ((town, "test"), (dair, "val")):
        plain = open_dataset(root, split)
        choices = [choice for choice in CHOICES if root != dair or not choice.depth]
        expected = frames(plain, choices)
        opened = cached(root, folder, split)
        assert frames(CachedSource(opened.source, folder, packed=packed), choices) == expected
        with monkeypatch.context() as patch:
            forbid_reading(opened, patch)
            assert frames(opened, choices) == expected


@pytest.mark.real
def test_real_images_come_back(folder: Path) -> None:
    root = real_data("dair_v2x_example")
    for _ in range(2):
        frame = cached(root, folder, "val").agent_frame(0, "vehicle", SensorChoice(cameras=True))
        assert bits(frame) == bits(open_dataset(root, "val").agent_frame(0, "vehicle", SensorChoice(cameras=True)))
    [[_, data]] = entries(folder, "images").items()
    assert 500_000 < len(data) < frame.cameras[0].image.nbytes / 2


def test_depth_images_of_both_steps_and_views_without_depth_come_back(town: Path, folder: Path) -> None:
    rng = np.random.default_rng(1)
    for step_m in (1.0, 0.05):
        for path in town.rglob("*_depth0.png"):
            write_depth(path, rng.uniform(0, 300, (12, 16)).astype(np.float32), step_m)
        expected = frames(open_dataset(town, "test"), [DEPTH])
        for _ in range(2):
            assert frames(cached(town, folder), [DEPTH]) == expected

    signed = np.array([[0.0, -0.0, 255.0, 256.0], [0.5, -1.0, 1e-40, 3e38]], np.float32)
    for depth_m in (signed, signed[:1, :3], np.abs(signed[:1, :3]), np.zeros((0, 3), np.float32)):
        for packed in (True, False):
            codec = depth_codec(packed=packed)
            [found, missing] = codec.unpack(codec.pack((depth_m, None)))
            assert found is not None and missing is None
            assert (found.shape, found.dtype, found.tobytes()) == (depth_m.shape, depth_m.dtype, depth_m.tobytes())

    class WithoutDepth:
        def __getattr__(self, name: str) -> object:
            return getattr(opened.source, name)

        def agent_frame(self, index: int, agent_id: str, choice: SensorChoice) -> AgentFrame:
            return opened.source.agent_frame(index, agent_id, replace(choice, depth=False))

    opened = cached(town, folder / "other")
    source = CachedSource(WithoutDepth(), opened.folder)  # type: ignore[arg-type]
    for _ in range(2):
        assert [view.depth_m for view in source.agent_frame(0, "7", DEPTH).cameras] == [None]


def test_choices_share_the_images_and_the_cloud(town: Path, folder: Path) -> None:
    frames(cached(town, folder))
    kinds = [path.suffix for path in entries(folder)]
    assert [kinds.count(kind) for kind in (".images", ".depth", ".cameras")] == [4, 4, 4]
    assert kinds.count(".frame") == 8  # of each agent's frame the cloud with all labels, and the labels that its camera sees


def test_other_classes_share_the_images_but_not_the_labels(town: Path, folder: Path) -> None:
    frames(cached(town, folder))
    before = entries(folder)
    source = open_dataset(town, "test", cache=folder, classes=EVERY_TYPE)
    source.agent_frame(0, source.listed(0).agent_ids[0], IMAGES)
    made = {path.suffix for path in entries(folder).keys() - before.keys()}
    assert ".frame" in made and not made & {".images", ".depth"}


def test_images_need_no_labels_but_the_chosen_ones(tmp_path: Path, folder: Path) -> None:
    root = dair_tree.write_tree(tmp_path / "dair")
    dair_tree.write_json(root / dair_tree.INNER / "vehicle-side/label/lidar_backup/000011.json", [])
    (root / dair_tree.INNER / "vehicle-side/label/lidar/000011.json").unlink()
    for _ in range(2):
        assert len(cached(root, folder, "val").agent_frame(0, "vehicle", IMAGES).cameras) == 1


def rewrite_image(root: Path) -> None:
    for path in root.rglob("*_camera0.png"):
        Image.fromarray(np.full((12, 16, 3), 7, np.uint8)).save(path)


def rewrite_depth(root: Path) -> None:
    for path in root.rglob("*_depth0.png"):
        write_depth(path, np.full((12, 16), 9, np.float32))


def rewrite_calibration(root: Path) -> None:
    for path in root.rglob("[0-9]*.json"):
        values = json.loads(path.read_text())
        values["camera0"]["intrinsic"][0][0] += 1
        path.write_text(json.dumps(values))
    for path in root.rglob("[0-9]*.yaml"):
        path.write_text(path.read_text().replace("20.5", "21.5"))


@pytest.mark.parametrize("change", [rewrite_image, rewrite_depth, rewrite_calibration])
def test_changed_files_are_read_again_and_the_cache_does_not_grow(town: Path, folder: Path, change: Callable[[Path], None]) -> None:
    before = frames(cached(town, folder))
    kept = entries(folder).keys()
    change(town)
    after = frames(open_dataset(town, "test"))
    assert after != before and frames(cached(town, folder)) == after
    assert entries(folder).keys() == kept


def test_entries_of_images_that_were_damaged_are_made_anew(town: Path, folder: Path) -> None:
    source, rng = cached(town, folder), random.Random(0)
    expected = frames(source, [DEPTH])
    whole = entries(folder)
    for _ in range(10):
        for path, data in whole.items():
            path.write_bytes(mutated_bytes(rng, [data]))
        assert frames(source, [DEPTH]) == expected
    assert entries(folder).keys() == whole.keys()


def test_whatever_entries_hold_under_a_right_checksum_frames_are_whole(town: Path, folder: Path) -> None:
    source, rng = cached(town, folder), random.Random(1)
    source.agent_frame(0, "7", DEPTH)
    whole = {path: data for kind in ("images", "depth", "cameras") for path, data in entries(folder, kind).items()}
    assert len(whole) == 3
    rewritten = 0
    for _ in range(40):
        for path, data in whole.items():
            [length] = struct.unpack_from("<I", data, 12)
            header, body = data[32 : 32 + length], data[32 + length :]
            header = mutated_text(rng, [header]) if rng.random() < 0.5 else header
            body = mutated_bytes(rng, [body]) if rng.random() < 0.5 and body else body
            path.write_bytes(sealed(data[:12] + struct.pack("<I", len(header)) + data[16:32] + header + body))
        [view] = source.agent_frame(0, "7", DEPTH).cameras
        assert view.image.shape == (12, 16, 3) and view.image.dtype == np.uint8
        assert view.depth_m is not None and view.depth_m.shape == (12, 16) and np.isfinite(view.depth_m).all()
        rewritten += sum(path.read_bytes() == data for path, data in whole.items())
    assert 10 < rewritten < 120, "some entries were refused and made anew, and some damage was none"


def test_entries_of_two_sizes_are_read_from_the_files(town: Path, folder: Path) -> None:
    source = cached(town, folder)
    expected = frames(source, [DEPTH])
    for path in entries(folder, "images"):
        entry = read_entry(path, stamps_in(path))
        assert entry is not None
        intrinsic, pose, image = entry.arrays
        other = keep_pixels(kept_pixels(image, (12, 16, 3), np.uint8)[:6], packed=True)
        values = {**entry.values, "sizes": [[6, 16]]}
        write_entry(path, stamps_in(path), replace(entry, values=values, arrays=(intrinsic, pose, other)))
    assert frames(source, [DEPTH]) == expected


def stamps_in(path: Path) -> list[tuple[int, int]]:
    """Return the stamps that the header of an entry names."""
    data = path.read_bytes()
    [length] = struct.unpack_from("<I", data, 12)
    return [(size, time_ns) for size, time_ns in json.loads(data[32 : 32 + length])["stamps"]]


def test_a_filled_cache_holds_everything_that_a_run_reads(town: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = cached(town, folder)
    expected = frames(open_dataset(town, "test"))
    assert Filling(source, choices_of(source, SENSORS)).fill(range(2)) == [[], []]
    whole = entries(folder)
    forbid_reading(source, monkeypatch)
    assert frames(source) == expected
    assert Filling(source, choices_of(source, SENSORS)).fill([1, 0]) == [[], []]
    assert entries(folder) == whole


def test_filling_stops_at_damage_or_keeps_the_rest(town: Path, folder: Path) -> None:
    broken = min(town.rglob("7/*_camera0.png"))
    broken.write_bytes(broken.read_bytes()[:40])
    source = cached(town, folder)
    choices = choices_of(source, SENSORS)
    with pytest.raises(DatasetError, match=broken.name):
        Filling(source, choices).fill(range(2))
    found = Filling(source, choices, skip=True).fill(range(2))
    assert [[error.path for error in errors] for errors in found] == [[broken], []]
    assert len(entries(folder, "images")) == 3


def test_filling_ends_where_nothing_can_be_written(town: Path, folder: Path) -> None:
    source = CachedSource(open_dataset(town, "test"), folder)
    folder.write_text("a file where the folder should be")
    with pytest.raises(CacheNotWritten, match="the cache cannot be written"):
        Filling(source, choices_of(source, SENSORS), skip=True).fill(range(2))
    with pytest.warns(CacheNotWritten, match="files are read every time"):
        assert frames(source, [IMAGES])
