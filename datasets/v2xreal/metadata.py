"""The metadata of V2X-Real: cameras that are calibrated to the LiDAR, and the entry that marks a roadside unit.

    ROOT/train|validate|test/2023-03-17-15-53-02_1_0/1|2|-1|-2/000000.yaml, .bin, _cam1.jpeg .. _cam4.jpeg

Vehicles have positive numbers and four cameras, roadside units negative numbers and two. Clouds are float32: x, y, z, intensity,
and in some files the laser line. Poses, angles (degrees) and objects are those of OPV2V: objects in world axes, with one id for
all agents.

What is known of the keys, and from where: the layout from the README, the clouds and the names of images from the README of the
authors' tools, all entries from the two frames of metadata that the authors publish beside those tools:

* `infra` is true for a roadside unit;
* `cam1` .. `cam4` have `intrinsic` and `extrinsic`, which maps the camera (x right, y down, z forward) into the LiDAR frame (x
  forward, y left, z up). Their `cords` are not used: they are no pose of a camera in OPV2V's axes;
* `vehicles` have `obj_type` (Car, Van, Truck, Bus, ConcreteTruck, Pedestrian, BicycleRider, ScooterRider, TrashCan, ...) and
  `attribute` ("" or "static"), which is not used. The signs of roll and pitch fit OPV2V's: the objects' tilt is that of the
  sloping road.

That an id means the same object for all agents is not documented; it is what the layout says. Clouds and images of the data set
have not been read with this module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from heal.datasets.notation import as_mapping, as_matrix, as_pose, entry_of
from heal.datasets.opv2v.dialect import Dialect
from heal.datasets.opv2v.metadata import CameraCalibration, FrameMetadata, parse_metadata
from heal.detection.classes import VEHICLES, Classes

CAMERA_NAME = re.compile(r"cam\d+")


def parse_v2xreal(values: Mapping[str, Any], agent_id: str = "", classes: Classes = VEHICLES) -> FrameMetadata:
    """Convert the content of a metadata file; KeyError for a missing entry, ValueError for an entry in another form."""
    names = sorted(key for key in values if isinstance(key, str) and CAMERA_NAME.fullmatch(key))
    cameras = tuple(_camera(name, as_mapping(name, values[name])) for name in names)
    metadata = parse_metadata(values, agent_id, classes)
    return replace(metadata, cameras=cameras, roadside=metadata.roadside or bool(values.get("infra", False)))


V2XREAL = Dialect(
    "V2X-Real",
    parse_v2xreal,
    rings=None,  # its clouds have four columns or five
    recording=re.compile(r"\d{4}(-\d\d){5}_\d+_\d+"),
    entry=re.compile(rb"^[\s\"']*(?:infra|cam\d)['\"]? *:", re.MULTILINE),
)


def _camera(name: str, values: Mapping[str, Any]) -> CameraCalibration:
    intrinsic = as_matrix(f"{name}: intrinsic", entry_of(name, values, "intrinsic"), (3, 3))
    return CameraCalibration(name, intrinsic, as_pose(f"{name}: extrinsic", entry_of(name, values, "extrinsic")))
