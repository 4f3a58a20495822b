"""Defects to plant into the trees of this folder: each a function that changes a tree, with the finding that it must cause."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image

from heal.datasets.lidar import read_lidar
from heal.datasets.pcd import write_pcd
from heal.types import Float32
from tests.datasets.dair.dair_tree import INNER, write_json
from tests.datasets.doctor.doctor_tree import STAMPS

Plant = Callable[[Path], None]
AGENT, THIN = Path("OPV2V/train/scenario_a/650"), Path("OPV2V_Hetero/train/scenario_a/650")
OTHER = AGENT.with_name("641")
FRAME = STAMPS[2]
CLOUD, METADATA, IMAGE = AGENT / f"{FRAME}.pcd", AGENT / f"{FRAME}.yaml", AGENT / f"{FRAME}_camera0.png"
DEPTH = THIN / f"{FRAME}_depth0.png"
VEHICLE, POLE = Path(INNER, "vehicle-side"), Path(INNER, "infrastructure-side")


@dataclass(frozen=True)
class Defect:
    """A defect.

    Attributes:
        kind: the finding that it must cause.
        path: the file or folder that the finding must name, from the root.
        plant: puts the defect into a tree.
    """

    kind: str
    path: Path
    plant: Plant


def removed(path: Path) -> Plant:
    return lambda root: (root / path).unlink()


def written(path: Path, content: bytes) -> Plant:
    def plant(root: Path) -> None:
        (root / path).write_bytes(content)

    return plant


def halved(path: Path) -> Plant:
    def plant(root: Path) -> None:
        content = (root / path).read_bytes()
        (root / path).write_bytes(content[: len(content) // 2])

    return plant


def points(paths: list[Path], change: Callable[[Float32], npt.NDArray[Any]]) -> Plant:
    def plant(root: Path) -> None:
        for path in paths:
            write_pcd(root / path, change(read_lidar(root / path)).astype(np.float32))

    return plant


def image(path: Path, pixels: npt.NDArray[Any]) -> Plant:
    return lambda root: Image.fromarray(pixels).save(root / path)


def edited(change: Callable[[dict[str, Any]], object], *paths: Path) -> Plant:
    """Change the metadata of some frames, by default of one."""

    def plant(root: Path) -> None:
        for path in paths or (METADATA,):
            values = yaml.safe_load((root / path).read_text())
            change(values)
            (root / path).write_text(yaml.safe_dump(values))

    return plant


def label(**values: object) -> Plant:
    return edited(lambda metadata: metadata["vehicles"][301].update(values))


def moved(place: str, wanted: str) -> Plant:
    def plant(root: Path) -> None:
        (root / wanted).parent.mkdir(parents=True, exist_ok=True)
        (root / place).rename(root / wanted)

    return plant


def exchanged(one: Path, other: Path, pattern: str) -> Plant:
    def plant(root: Path) -> None:
        for path in sorted((root / one).glob(pattern)):
            first, second = path.read_bytes(), (root / other / path.name).read_bytes()
            path.write_bytes(second)
            (root / other / path.name).write_bytes(first)

    return plant


def json_edited(path: Path, change: Callable[[Any], object]) -> Plant:
    def plant(root: Path) -> None:
        for file in sorted(root.glob(str(path))):
            values = json.loads(file.read_text())
            change(values)
            file.write_text(json.dumps(values))

    return plant


def complemented(*parts: str) -> Plant:
    """Unpack complemented labels beside the data, or only some of their folders in place."""

    def plant(root: Path) -> None:
        for part in ("cooperative/label_world", "vehicle-side/label/lidar"):
            if not parts:
                shutil.copytree(root / INNER / part, root / "complemented" / part)
            elif part in parts:
                shutil.copytree(root / INNER / part, (root / INNER / part).with_name(f"{Path(part).name}_backup"))

    return plant


def without_frame(root: Path) -> None:
    for agent in (AGENT, OTHER):
        for path in (root / agent).glob(f"{FRAME}*"):
            path.unlink()


def only_cameras_up(metadata: dict[str, Any]) -> None:
    for camera in ("camera0", "camera1"):
        metadata[camera]["cords"][5] = 90.0


def metadata_alone(root: Path) -> None:
    shutil.rmtree(root / "OPV2V_Hetero")
    for path in [*root.rglob("*.pcd"), *root.rglob("*.png")]:
        path.unlink()


ALL = [AGENT / f"{stamp}.yaml" for stamp in STAMPS]
OPV2V = [
    Defect("missing-file", CLOUD, removed(CLOUD)),
    Defect("damaged-file", CLOUD, written(CLOUD, b"")),
    Defect("damaged-file", CLOUD, halved(CLOUD)),
    Defect("damaged-file", CLOUD, written(CLOUD, b"<html>404</html>")),
    Defect("empty-cloud", CLOUD, points([CLOUD], lambda cloud: cloud[:0])),
    Defect("cloud-units", CLOUD, points([CLOUD], lambda cloud: cloud * [1000, 1000, 1000, 1])),
    Defect("sparse-cloud", CLOUD, points([CLOUD], lambda cloud: cloud[::10])),
    Defect("no-intensity", AGENT, points([AGENT / f"{stamp}.pcd" for stamp in STAMPS], lambda cloud: cloud * [1, 1, 1, 0])),
    Defect("missing-file", THIN / f"{FRAME}_32.pcd", removed(THIN / f"{FRAME}_32.pcd")),
    Defect("missing-file", IMAGE, removed(IMAGE)),
    Defect("damaged-file", IMAGE, halved(IMAGE)),
    Defect("image-bits", IMAGE, image(IMAGE, np.full((48, 64), 7, np.uint16))),
    Defect("missing-file", DEPTH, removed(DEPTH)),
    Defect("damaged-file", DEPTH, image(DEPTH, np.zeros((48, 64, 3), np.uint8))),
    Defect("damaged-file", DEPTH, image(DEPTH, np.zeros((24, 32), np.uint8))),
    Defect("damaged-file", METADATA, written(METADATA, b"lidar_pose: [1, 2")),
    Defect("damaged-file", METADATA, written(METADATA, b"")),
    Defect("no-metadata", METADATA, removed(METADATA)),
    Defect("no-partner", AGENT, removed(METADATA)),
    Defect("damaged-file", METADATA, edited(lambda metadata: metadata.pop("lidar_pose"))),
    Defect("no-labels", METADATA, edited(lambda metadata: metadata.pop("vehicles"))),
    Defect("label-range", METADATA, label(location=[2000.0, 6.0, 0.0])),
    Defect("label-size", METADATA, label(extent=[0.0, 0.0, 0.0])),
    Defect("label-size", METADATA, label(extent=[0.1, 0.1, 0.1])),
    Defect("label-turned", METADATA, label(angle=[0.0, 90.0, 0.0])),
    Defect("label-turned", METADATA, label(angle=[90.0, 0.0, 0.0])),
    Defect("label-turned", METADATA, label(extent=[1.0, 2.0, 0.75])),
    Defect("label-conflict", METADATA, label(location=[-25.0, 6.0, 0.0])),
    Defect("clock-jump", OTHER / f"{STAMPS[3]}.yaml", without_frame),
    Defect("pose-jump", METADATA, edited(lambda metadata: metadata.update(lidar_pose=[80.0, 0.0, 2.0, 0.0, 0.0, 0.0]))),
    Defect("pose-jump", METADATA, edited(lambda metadata: metadata["lidar_pose"].__setitem__(4, 120.0))),
    Defect("pose-step", ALL[3], edited(lambda metadata: metadata["lidar_pose"].__setitem__(1, 90.0), *ALL[3:])),
    Defect("calibration", ALL[0], edited(lambda metadata: metadata["lidar_pose"].__setitem__(4, 90.0), *ALL)),
    Defect("sides-exchanged", OTHER / f"{STAMPS[0]}.yaml", exchanged(OTHER, AGENT, "??????.pcd")),
    Defect("camera-beside", AGENT / f"{STAMPS[0]}_camera0.png", edited(only_cameras_up, *ALL)),
    Defect("image-centre", IMAGE, edited(lambda metadata: metadata["camera0"]["intrinsic"].__setitem__(0, [64.0, 0.0, 64.0]))),
    Defect("archive-misplaced", Path("OPV2V-H"), moved("OPV2V_Hetero", "OPV2V-H")),
    Defect("archive-packed", Path("OPV2V-H-LiDAR.zip"), written(Path("OPV2V-H-LiDAR.zip"), b"PK")),
    Defect("archive-missing", Path("OPV2V_Hetero"), lambda root: shutil.rmtree(root / "OPV2V_Hetero")),
    Defect("split-unusable", Path("OPV2V/train"), metadata_alone),
    Defect("unknown-layout", Path("OPV2V"), moved("OPV2V/train", "OPV2V/trian")),
]
# An image of another size than its depth image; without depth images it is known by the camera's others.
WITHOUT_DEPTH = Defect("image-size", IMAGE, image(IMAGE, np.zeros((24, 32, 3), np.uint8)))
DAIR = [
    Defect(
        "calibration",
        POLE / "calib/virtuallidar_to_world/000000.json",
        json_edited(POLE / "calib/virtuallidar_to_world/*.json", lambda values: values["translation"].__setitem__(0, [9.5])),
    ),
    Defect(
        "sides-exchanged",
        VEHICLE / "calib/novatel_to_world/000000.json",
        exchanged(VEHICLE / "velodyne", POLE / "velodyne", "*.pcd"),
    ),
    Defect("archive-misplaced", Path("complemented"), complemented()),
    Defect("labels-half", Path(INNER), complemented("cooperative/label_world")),
    Defect("split-unusable", Path("train.json"), removed(Path("train.json"))),
    Defect("left-out", Path("000123"), lambda root: write_json(root / "train.json", ["000000", "000001", "000123"])),
    Defect(
        "clock-offset",
        POLE / "calib/virtuallidar_to_world/000000.json",
        json_edited(
            POLE / "data_info.json",
            lambda entries: [
                entry.update(pointcloud_timestamp=f"{int(entry['pointcloud_timestamp']) + 10**6}") for entry in entries
            ],
        ),
    ),
    Defect(
        "damaged-file", POLE / "data_info.json", json_edited(POLE / "data_info.json", lambda entries: entries[2].pop("image_path"))
    ),
    Defect("damaged-file", POLE / "label/virtuallidar/000002.json", halved(POLE / "label/virtuallidar/000002.json")),
    Defect(
        "missing-file",
        Path(INNER, "cooperative/label_world/000002.json"),
        removed(Path(INNER, "cooperative/label_world/000002.json")),
    ),
    Defect("damaged-file", VEHICLE / "velodyne/000002.pcd", halved(VEHICLE / "velodyne/000002.pcd")),
    Defect("archive-missing", POLE / "image", lambda root: shutil.rmtree(root / POLE / "image")),
    Defect(
        "label-size",
        VEHICLE / "label/lidar/000002.json",
        json_edited(
            VEHICLE / "label/lidar/000002.json", lambda labels: labels[0].update({"3d_dimensions": {"h": 0, "w": 0, "l": 0}})
        ),
    ),
]


def names(defects: list[Defect]) -> Iterator[str]:
    for number, defect in enumerate(defects):
        yield f"{number}-{defect.kind}"
