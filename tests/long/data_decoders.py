"""The decoders of data sets: clouds, metadata, lists, calibrations, labels, assignments and the entries of a cache."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from heal.datasets.assignment import read_assignment
from heal.datasets.cache.source import CachedSource
from heal.datasets.dair.calibration import read_camera, read_chain
from heal.datasets.dair.index import read_dair_split, read_pairs
from heal.datasets.dataset import DatasetError
from heal.datasets.files import MAX_PIXELS, errors_naming, read_depth, read_grey, read_image, read_json
from heal.datasets.labels import dair_left_out, dair_objects, dair_world_objects
from heal.datasets.lidar import read_lidar
from heal.datasets.opv2v.metadata import read_metadata
from heal.datasets.opv2v.source import Opv2vSource
from heal.types import SensorChoice, UInt8
from tests.datasets.dair import dair_tree
from tests.datasets.opv2v import opv2v_tree
from tests.datasets.test_pcd import encodings
from tests.long.decoder import Decoder, of_file, one_of
from tests.long.images import mutated_image, valid_depths, valid_images
from tests.long.mutations import mutated_bytes, mutated_text

SPLIT, FRAME = "train", "000010"


def _check_cloud(path: Path) -> None:
    points = read_lidar(path)
    assert points.dtype == np.float32 and points.shape[1:] == (4,) and np.isfinite(points).all()
    assert ((points[:, 3] >= 0) & (points[:, 3] <= 1)).all()


def _mutated_cloud(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Damage the text of a cloud's header, its bytes, or both."""
    data = seeds[rng.randrange(len(seeds))]
    begin = data.find(b"DATA")
    if rng.random() < 0.6:
        data = mutated_text(rng, [data[:begin]]) + data[begin:]
    return mutated_bytes(rng, [data]) if rng.random() < 0.5 else data


def _pcd(folder: Path) -> Decoder:
    return of_file(folder, ".pcd", _check_cloud, DatasetError, [*encodings().values()], _mutated_cloud)


def _bin(folder: Path) -> Decoder:
    return of_file(folder, ".bin", _check_cloud, DatasetError, [np.arange(64, dtype="<f4").tobytes()], mutated_bytes)


def _pixels(read_pixels: Callable[[Path], UInt8], folder: Path) -> Decoder:
    def read(path: Path) -> None:
        pixels = read_pixels(path)
        assert pixels.dtype == np.uint8 and pixels.shape[2:] in ((), (3,)) and pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS

    return of_file(folder, ".png", read, DatasetError, valid_images(), mutated_image)


def _depth(folder: Path) -> Decoder:
    def read(path: Path) -> None:
        depth = read_depth(path)
        assert depth.dtype == np.float32 and depth.size <= MAX_PIXELS and np.isfinite(depth).all()

    return of_file(folder, ".png", read, DatasetError, valid_depths(), mutated_image)


def _check_metadata(path: Path) -> None:
    found = read_metadata(path.with_suffix(""))
    assert np.isfinite(found.world_SE3_lidar).all() and np.isfinite(found.objects.world_corners).all()


def _metadata_values() -> dict[str, Any]:
    vehicles = {7: opv2v_tree.vehicle(9.0, 0.0), 8: opv2v_tree.vehicle(-4.0, 2.0, 30.0)}
    vehicles[7]["obj_type"] = "Car"
    return {**opv2v_tree.metadata(vehicles=vehicles), "RSU": False}


def _opv2v_yaml(folder: Path) -> Decoder:
    values = _metadata_values()
    tagged = {"lidar_pose": [np.float64(3.5)] * 6, "plan": (1, 2), "pose": np.eye(2), "vehicles": {}}
    seeds = [yaml.safe_dump(values).encode(), yaml.dump(values, default_flow_style=True).encode(), yaml.dump(tagged).encode()]
    return of_file(folder, ".yaml", _check_metadata, DatasetError, seeds, mutated_text)


def _opv2v_json(folder: Path) -> Decoder:
    return of_file(folder, ".json", _check_metadata, DatasetError, [json.dumps(_metadata_values()).encode()], mutated_text)


def _dair_list(folder: Path) -> Decoder:
    """One of the lists of a split, `data_info.json` of a side or the split itself, beside the others."""
    root = dair_tree.write_tree(folder / "dair")
    inner = root / dair_tree.INNER
    paths = [inner / side / "data_info.json" for side in ("vehicle-side", "infrastructure-side", "cooperative")]
    paths.append(root / f"{SPLIT}.json")

    def read() -> str:
        pairs, skipped = read_pairs(inner, read_dair_split(root, SPLIT))
        assert pairs or skipped
        return "accepted"

    return one_of(paths, read, DatasetError, mutated_text)


def _dair_calibration(folder: Path) -> Decoder:
    side = dair_tree.write_tree(folder / "dair") / dair_tree.INNER / "vehicle-side"
    files = [side / f"calib/{name}/{FRAME}.json" for name in ("camera_intrinsic", "lidar_to_camera", "lidar_to_novatel")]

    def read() -> str:
        camera = read_camera(side / f"image/{FRAME}.jpg", *files[:2])
        assert np.isfinite(read_chain(files[2:])).all() and np.isfinite(camera.intrinsic).all()
        return "accepted"

    return one_of(files, read, DatasetError, mutated_text)


def _dair_labels(folder: Path) -> Decoder:
    inner = dair_tree.write_tree(folder / "dair") / dair_tree.INNER
    files = [inner / f"vehicle-side/label/lidar/{FRAME}.json", inner / f"cooperative/label_world/{FRAME}.json"]

    def read() -> str:
        for path in files:
            values = read_json(path)
            with errors_naming(path):
                dair_left_out(values)
                objects = dair_objects(values, np.eye(4)) if path == files[0] else dair_world_objects(values)
            assert np.isfinite(objects.world_corners).all()
        return "accepted"

    return one_of(files, read, DatasetError, mutated_text)


def _assignment(folder: Path) -> Decoder:
    seeds = [json.dumps({"a": {"1": "m1", "2": "m2"}, "b": {"1": "m3"}}, indent=1).encode()]
    return of_file(folder, ".json", read_assignment, DatasetError, seeds, mutated_text)


def _cache(folder: Path) -> Decoder:
    """An entry of a cache, with a right checksum and right stamps: a wrong one is read again from the data set."""
    root = opv2v_tree.write_tree(folder / "data")
    source = CachedSource(Opv2vSource(root, "test"), folder / "cache")
    agent_id = source.outline(0).agent_ids[0]

    def entries() -> dict[Path, int]:
        return {path: path.stat().st_ino for path in sorted((folder / "cache").rglob("*")) if path.is_file()}

    def read() -> str:
        before = entries()
        source.outline(0), source.agent_frame(0, agent_id, SensorChoice(cameras=True)), source.scene_objects(0)
        return "accepted" if entries() == before else "written again"

    read()
    files = [*entries()]
    return one_of(files, read, None, mutated_entry, lambda _, data: sealed_entry(data))


def mutated_entry(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Damage the header of an entry as text, and its arrays as bytes."""
    seed = rng.choice(seeds)
    place, data = seed[:1], seed[1:]
    [length] = struct.unpack_from("<I", data, 12)
    header, body = data[32 : 32 + length], data[32 + length :]
    header = mutated_text(rng, [header]) if rng.random() < 0.7 else header
    body = mutated_bytes(rng, [body]) if rng.random() < 0.5 and body else body
    prefix = data[:32] if rng.random() < 0.95 else mutated_bytes(rng, [data[:32]])[:32].ljust(32, b"\0")
    return place + prefix[:12] + struct.pack("<I", len(header)) + prefix[16:] + header + body


def sealed_entry(data: bytes) -> bytes:
    """Return an entry with the checksum and the length of its content."""
    return data[:16] + struct.pack("<IQ4x", zlib.crc32(data[32:]), len(data)) + data[32:]


DATA_DECODERS = {
    "pcd": _pcd,
    "bin": _bin,
    "image": partial(_pixels, read_image),
    "visibility": partial(_pixels, read_grey),
    "depth": _depth,
    "opv2v-yaml": _opv2v_yaml,
    "opv2v-json": _opv2v_json,
    "dair-list": _dair_list,
    "dair-calibration": _dair_calibration,
    "dair-labels": _dair_labels,
    "assignment": _assignment,
    "cache": _cache,
}
