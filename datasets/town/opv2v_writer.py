"""Write the built-in town in the layout of OPV2V and OPV2V-H, for every reader of these data sets.

ROOT/OPV2V/<split>/<scenario>/data_protocol.yaml
ROOT/OPV2V/<split>/<scenario>/<agent>/<stamp>.pcd, .yaml, _camera0.png .. _camera3.png
ROOT/OPV2V/additional/<split>/<scenario>/<agent>/<stamp>_bev_visibility.png
ROOT/OPV2V_Hetero/<split>/<scenario>/<agent>/<stamp>_16.pcd, _32.pcd, _depth0.png .. _depth3.png
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heal.datasets.files import read_yaml, write_depth, write_image, write_yaml
from heal.datasets.opv2v.index import VISIBILITY_SUFFIX
from heal.datasets.pcd import write_pcd
from heal.datasets.town.opv2v_metadata import frame_metadata
from heal.datasets.town.source import TownSource
from heal.detection.visibility import scene_visibility
from heal.types import AgentFrame, ObjectLabels, Scene, SensorChoice

WRITER_VERSION = 3
THINNED_BEAMS = (16, 32)
_TREES = ("OPV2V", "OPV2V_Hetero", "OPV2V/additional")


@dataclass(frozen=True)
class ScenarioReport:
    """Counts of one written scenario.

    Attributes:
        name: the name of its folder.
        frames: number of scenes.
        agents: number of agents in each scene.
        labelled: number of labelled vehicles within the evaluation range of the ego, summed over the scenes.
        hidden: number of these vehicles that are hidden from the ego while another agent sees them well.
        written: False if the scenario already existed.
    """

    name: str
    frames: int
    agents: int
    labelled: int
    hidden: int
    written: bool


def write_opv2v(source: TownSource, root: Path, keep_going: Callable[[], None] = lambda: None) -> ScenarioReport:
    """Write all scenes of a town as one scenario, unless the scenario already exists.

    All files are first written to another folder and moved into place at the end, so an existing scenario is complete.

    Args:
        source: the town. Clouds and metadata are always written; images, thinned clouds and depth if its sensors name them.
        root: the folder for OPV2V and OPV2V_Hetero.
        keep_going: called before each agent's frame; may raise to stop.

    Raises:
        FileExistsError: the scenario exists, but was made with other settings.
    """
    name, settings = source.scenario, _settings(source)
    # A folder that no other process uses: one that were shared might be removed by one process while another writes into it.
    done, partial = root / "OPV2V" / source.split / name, root / f".{source.split}-{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed, perhaps after it had moved the last folder
    if done.exists():
        return _read_report(done, settings)
    try:
        labelled = [_write_scene(source, index, partial, keep_going) for index in range(len(source))]
        total, hidden = (int(sum(part)) for part in zip(*labelled, strict=True))
        report = ScenarioReport(name, len(source), len(source.town.agents), total, hidden, written=True)
        write_yaml(partial / "OPV2V" / "data_protocol.yaml", _protocol(settings, report))
        _move_into_place(partial, root, source.split, name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return report


def _write_scene(source: TownSource, index: int, partial: Path, keep_going: Callable[[], None]) -> tuple[int, int]:
    """Write one scene; return the number of labelled vehicles near the ego, and how many of them are hidden from the ego."""
    outline = source.outline(index)
    frames = []
    for agent_id in outline.agent_ids:
        keep_going()
        frame = source.agent_frame(index, agent_id)
        _write_frame(source, index, frame, partial)
        frames.append(frame)
    objects = ObjectLabels.union([frame.objects for frame in frames])
    visibility = scene_visibility(Scene(outline, tuple(frames), objects))
    return len(visibility.ids), int(visibility.hidden.sum())


def _write_frame(source: TownSource, index: int, frame: AgentFrame, partial: Path) -> None:
    """Write all files of one agent's frame below `partial`, one folder for each tree."""
    stamp = source.stamp(index)
    folder, hetero, additional = (partial / tree.replace("/", "_") / frame.agent_id for tree in _TREES)
    folder.mkdir(parents=True, exist_ok=True)
    sweep = source.sweep(index, frame.agent_id)
    write_pcd(folder / f"{stamp}.pcd", sweep.points)
    write_yaml(folder / f"{stamp}.yaml", frame_metadata(source, index, frame.agent_id))
    if not SensorChoice.of(source.sensors).cameras:
        return
    hetero.mkdir(parents=True, exist_ok=True)
    additional.mkdir(parents=True, exist_ok=True)
    beams = source.agent(frame.agent_id).lidar.beams
    for lines in THINNED_BEAMS:
        write_pcd(hetero / f"{stamp}_{lines}.pcd", sweep.thinned(beams, lines))
    for view in frame.cameras:
        write_image(folder / f"{stamp}_{view.name}.png", view.image)
        if view.depth_m is not None:
            path = hetero / f"{stamp}_{view.name.replace('camera', 'depth')}.png"
            write_depth(path, view.depth_m, source.cameras.depth_step_m)
    write_image(additional / f"{stamp}{VISIBILITY_SUFFIX}", source.visibility_map(index, frame.agent_id))


def _move_into_place(partial: Path, root: Path, split: str, name: str) -> None:
    """Move a scenario's folders to their trees. The folder in OPV2V is last: if it exists, the others exist too."""
    for tree in reversed(_TREES):
        made, wanted = partial / tree.replace("/", "_"), root / tree / split / name
        if made.exists():
            wanted.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(wanted, ignore_errors=True)
            made.rename(wanted)


def _settings(source: TownSource) -> dict[str, Any]:
    """Return everything that a scenario's files depend on; options of the cameras only where they differ from the default."""
    cameras = source.cameras.changes()
    return {
        "preset": source.preset.name,
        "split": source.split,
        "seed": source.seed,
        "frames": len(source),
        "stride": source.stride,
        "sensors": sorted(source.sensors),
        "version": WRITER_VERSION,
        **({"cameras": cameras} if cameras else {}),
    }


def _protocol(settings: dict[str, Any], report: ScenarioReport) -> dict[str, Any]:
    """Return the content of data_protocol.yaml."""
    return {
        "description": "A generated town: no real place, no real vehicle.",
        "town": settings,
        "content": {"agents": report.agents, "labelled": report.labelled, "hidden": report.hidden},
        "world": {"fixed_delta_seconds": 0.05, "seed": settings["seed"], "sync_mode": True},
    }


def _read_report(scenario: Path, settings: dict[str, Any]) -> ScenarioReport:
    """Read the report of an existing scenario; FileExistsError if the scenario has other settings."""
    protocol = read_yaml(scenario / "data_protocol.yaml")
    if protocol.get("town") != settings:
        raise FileExistsError(
            f"{scenario} was generated with {protocol.get('town')}, not with {settings}; remove it or choose another folder"
        )
    content = protocol["content"]
    return ScenarioReport(
        scenario.name, settings["frames"], content["agents"], content["labelled"], content["hidden"], written=False
    )
