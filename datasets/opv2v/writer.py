"""Write scenes in the layout of OPV2V and OPV2V-H, which our reader and every other reader of these data sets opens.

ROOT/OPV2V/<split>/<scenario>/data_protocol.yaml, SHA256SUMS
ROOT/OPV2V/<split>/<scenario>/<agent>/<stamp>.pcd, .yaml, _camera0.png .. _camera3.png
ROOT/OPV2V/additional/<split>/<scenario>/<agent>/<stamp>_bev_visibility.png
ROOT/OPV2V_Hetero/<split>/<scenario>/<agent>/<stamp>_16.pcd, _32.pcd, _depth0.png .. _depth3.png

`write_scenario` writes scenes of any source. A source that knows more than its scenes tell, such as the built-in town, writes each
frame with `write_frame` in a `new_scenario`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from heal.datasets.checksums import CHECKSUMS_NAME, checksums_text
from heal.datasets.files import FINEST_DEPTH_M, WHOLE_METRES, read_yaml, write_depth, write_image, write_yaml
from heal.datasets.opv2v.frame_numbers import FrameNumbers
from heal.datasets.opv2v.index import VISIBILITY_SUFFIX
from heal.datasets.opv2v.metadata import CAMERA_NAME
from heal.datasets.opv2v.written_metadata import frame_metadata
from heal.datasets.pcd import write_pcd
from heal.detection.classes import VEHICLES, Classes
from heal.errors import UserError
from heal.types import AgentFrame, Float32, Scene, UInt8, is_roadside_name

PROTOCOL_NAME = "data_protocol.yaml"
_MAIN = "OPV2V"
_TREES = (_MAIN, "OPV2V_Hetero", "OPV2V/additional")
_MOST_WHOLE_METRES = 255


@dataclass(frozen=True)
class FrameFiles:
    """What is written of an agent's frame.

    Attributes:
        frame: its cloud and its images are written; its cameras are called camera0, camera1 and on.
        metadata: the content of the YAML file.
        thinned: laser lines -> cloud (N, 4) float32 of so many lines.
        visibility: the map of what the cameras see from above, (H, W) uint8, or None.
        depth_step_m: the step of the depth images in metres; None for whole metres where the depths are whole, else 0.01 m.
    """

    frame: AgentFrame
    metadata: Mapping[str, Any]
    thinned: Mapping[int, Float32] = field(default_factory=dict)
    visibility: UInt8 | None = None
    depth_step_m: float | None = None

    @staticmethod
    def of(frame: AgentFrame, labelled: bool = True, classes: Classes = VEHICLES) -> FrameFiles:
        """Take all that a frame holds; cameras with other names are numbered. UserError if the layout cannot hold the frame."""
        _require_writable(frame)
        if not all(CAMERA_NAME.fullmatch(view.name) for view in frame.cameras):
            views = tuple(replace(view, name=f"camera{number}") for number, view in enumerate(frame.cameras))
            frame = replace(frame, cameras=views)
        return FrameFiles(frame, frame_metadata(frame, labelled, classes))


def write_scenario(
    scenes: Iterable[Scene],
    root: Path,
    split: str,
    name: str,
    *,
    labelled: bool = True,
    classes: Classes = VEHICLES,
    protocol: Mapping[str, Any] | None = None,
) -> int:
    """Write scenes as one scenario, and a SHA-256 for every file; return the number of scenes.

    Stamps count steps of 50 ms; the exact times are in the metadata. Where a scene is labelled as a whole, its labels are written
    for each of its agents. An intensity is rounded to a multiple of 1/255, as OPV2V stores it. Measured poses are not written.

    Args:
        scenes: in the order of their times. They are taken one by one, so a generator need not hold them all.
        root: the folder for OPV2V and OPV2V_Hetero.
        split: train, validate or test.
        name: of the scenario.
        labelled: False for scenes without labels, which is something else than scenes without objects.
        classes: the classes of the objects; the types of others than vehicles alone are written.
        protocol: content of data_protocol.yaml; it tells later what the scenario was made from.

    Raises:
        FileExistsError: the scenario exists already.
        UserError: there is no scene, or a scene that the layout cannot hold.
    """
    if read_protocol(root, split, name) is not None:
        raise FileExistsError(f"{scenario_path(root, split, name)} exists already; remove it or choose another name")
    with new_scenario(root, split, name) as partial:
        count = _write_scenes(scenes, partial, labelled, classes)
        if not count:
            raise UserError(f"scenario {name} of {split}: expected at least one scene, got none")
        write_yaml(partial / _MAIN / PROTOCOL_NAME, protocol or {"description": "Written by heal.datasets.opv2v.writer."})
        _write_checksums(partial, split, name)
    return count


def _write_scenes(scenes: Iterable[Scene], partial: Path, labelled: bool, classes: Classes) -> int:
    """Write the frames of scenes; return the number of scenes."""
    numbers, count = FrameNumbers(), 0
    for scene in scenes:
        count += 1
        stamp = numbers.next_stamp(scene.outline.timestamp_ns)
        for frame in scene.frames:
            shown = replace(frame, objects=scene.objects) if scene.outline.labelled_as_whole else frame
            write_frame(partial, stamp, FrameFiles.of(shown, labelled, classes))
    return count


def scenario_path(root: Path, split: str, name: str) -> Path:
    """Return the folder of a scenario in OPV2V; where it exists, the scenario is complete."""
    return root / _MAIN / split / name


def read_protocol(root: Path, split: str, name: str) -> Mapping[str, Any] | None:
    """Return the data_protocol.yaml of a scenario, or None if the scenario does not exist.

    What a killed process has left of the scenario is removed, perhaps after the process had moved the last folder.
    """
    shutil.rmtree(_partial(root, split, name), ignore_errors=True)
    folder = scenario_path(root, split, name)
    if not folder.exists():
        return None
    protocol: Mapping[str, Any] = read_yaml(folder / PROTOCOL_NAME)
    return protocol


@contextmanager
def new_scenario(root: Path, split: str, name: str) -> Iterator[Path]:
    """Give a hidden folder for the files of a scenario, and move them into place if nothing goes wrong.

    A scenario that exists is therefore complete. Write to the folder with `write_frame`; data_protocol.yaml belongs in its OPV2V.
    """
    # A folder that no other process uses: one that were shared might be removed by one process while another writes into it.
    partial = _partial(root, split, name)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        yield partial
        _move_into_place(partial, root, split, name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_frame(partial: Path, stamp: str, files: FrameFiles) -> None:
    """Write the files of one agent's frame below `partial`, one folder for each tree."""
    frame = files.frame
    folder, hetero, additional = (_tree(partial, tree) / frame.agent_id for tree in _TREES)
    folder.mkdir(parents=True, exist_ok=True)
    write_yaml(folder / f"{stamp}.yaml", files.metadata)
    if frame.lidar is not None:
        write_pcd(folder / f"{stamp}.pcd", frame.lidar.points)
    for view in frame.cameras:
        write_image(folder / f"{stamp}_{view.name}.png", view.image)
    for lines, points in files.thinned.items():
        hetero.mkdir(parents=True, exist_ok=True)
        write_pcd(hetero / f"{stamp}_{lines}.pcd", points)
    for name, depth_m in ((view.name, view.depth_m) for view in frame.cameras if view.depth_m is not None):
        hetero.mkdir(parents=True, exist_ok=True)
        step_m = files.depth_step_m or _depth_step(depth_m)
        write_depth(hetero / f"{stamp}_{name.replace('camera', 'depth')}.png", depth_m, step_m)
    if files.visibility is not None:
        additional.mkdir(parents=True, exist_ok=True)
        write_image(additional / f"{stamp}{VISIBILITY_SUFFIX}", files.visibility)


def _depth_step(depth_m: Float32) -> float:
    """Return the step in metres in which a depth image (H, W) loses least."""
    is_whole = np.array_equal(depth_m, np.rint(depth_m)) and depth_m.max(initial=0) <= _MOST_WHOLE_METRES
    return WHOLE_METRES if is_whole else FINEST_DEPTH_M


def _require_writable(frame: AgentFrame) -> None:
    """Raise UserError for a frame that would be read back as something else."""
    _require_folder_name(frame.agent_id)
    if frame.kind == "vehicle" and is_roadside_name(frame.agent_id):
        raise UserError(f"agent {frame.agent_id!r}: expected another name for a vehicle, because this one means a roadside unit")
    intensity = np.empty(0, np.float32) if frame.lidar is None else frame.lidar.points[:, 3]
    if not ((intensity >= 0) & (intensity <= 1)).all():
        raise UserError(
            f"agent {frame.agent_id!r}: expected intensities from 0 to 1, got {intensity.min():g} to {intensity.max():g}; divide "
            "them by the value that stands for 1, such as 255"
        )


def _require_folder_name(name: str) -> None:
    if name != Path(name).name or name.startswith("."):
        raise UserError(f"{name!r}: expected a name without / that does not begin with a dot, because a folder gets this name")


def _partial(root: Path, split: str, name: str) -> Path:
    """Return the hidden folder in which a scenario is made; UserError unless folders can have the two names."""
    for part in (split, name):
        _require_folder_name(part)
    return root / f".{split}-{name}.partial"


def _tree(partial: Path, tree: str) -> Path:
    return partial / tree.replace("/", "_")


def _write_checksums(partial: Path, split: str, name: str) -> None:
    """Write the SHA-256 of all files of a scenario, under the names that they will have in the root."""
    files = [
        (f"{tree}/{split}/{name}/{path.relative_to(_tree(partial, tree)).as_posix()}", path)
        for tree in _TREES
        for path in sorted(_tree(partial, tree).rglob("*"))
        if path.is_file()
    ]
    (partial / _MAIN / CHECKSUMS_NAME).write_text(checksums_text(files), encoding="utf-8")


def _move_into_place(partial: Path, root: Path, split: str, name: str) -> None:
    """Move a scenario's folders to their trees. The folder in OPV2V is last: if it exists, the others exist too."""
    for tree in reversed(_TREES):
        made, wanted = _tree(partial, tree), root / tree / split / name
        if made.exists():
            wanted.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(wanted, ignore_errors=True)
            made.rename(wanted)
