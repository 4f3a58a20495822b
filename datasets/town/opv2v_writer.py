"""Write the built-in town in the layout of OPV2V and OPV2V-H; see `heal.datasets.opv2v.writer` for the files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from heal.datasets.files import write_yaml
from heal.datasets.opv2v.writer import PROTOCOL_NAME, FrameFiles, new_scenario, read_protocol, scenario_path, write_frame
from heal.datasets.town.opv2v_metadata import frame_metadata
from heal.datasets.town.source import TownSource
from heal.detection.visibility import scene_visibility
from heal.types import AgentFrame, LidarScan, ObjectLabels, Scene, SensorChoice

WRITER_VERSION = 3
THINNED_BEAMS = (16, 32)


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
    there = read_protocol(root, source.split, name)
    if there is not None:
        return _read_report(there, scenario_path(root, source.split, name), settings)
    with new_scenario(root, source.split, name) as partial:
        labelled = [_write_scene(source, index, partial, keep_going) for index in range(len(source))]
        total, hidden = (int(sum(part)) for part in zip(*labelled, strict=True))
        report = ScenarioReport(name, len(source), len(source.town.agents), total, hidden, written=True)
        write_yaml(partial / "OPV2V" / PROTOCOL_NAME, _protocol(settings, report))
    return report


def _write_scene(source: TownSource, index: int, partial: Path, keep_going: Callable[[], None]) -> tuple[int, int]:
    """Write one scene; return the number of labelled vehicles near the ego, and how many of them are hidden from the ego."""
    outline = source.outline(index)
    frames = []
    for agent_id in outline.agent_ids:
        keep_going()
        frame = source.agent_frame(index, agent_id)
        write_frame(partial, source.stamp(index), _frame_files(source, index, frame))
        frames.append(frame)
    objects = ObjectLabels.union([frame.objects for frame in frames])
    visibility = scene_visibility(Scene(outline, tuple(frames), objects))
    return len(visibility.ids), int(visibility.hidden.sum())


def _frame_files(source: TownSource, index: int, frame: AgentFrame) -> FrameFiles:
    """Add to a frame what a scene does not tell: speeds, and with cameras the thinned clouds and the map of what they see."""
    sweep, agent = source.sweep(index, frame.agent_id), source.agent(frame.agent_id)
    with_cloud = replace(frame, lidar=LidarScan(sweep.points, agent.lidar.beams))
    metadata = frame_metadata(source, index, frame.agent_id)
    if not SensorChoice.of(source.sensors).cameras:
        return FrameFiles(with_cloud, metadata)
    thinned = {lines: sweep.thinned(agent.lidar.beams, lines) for lines in THINNED_BEAMS}
    visibility = source.visibility_map(index, frame.agent_id)
    return FrameFiles(with_cloud, metadata, thinned, visibility, source.cameras.depth_step_m)


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


def _read_report(protocol: Mapping[str, Any], scenario: Path, settings: dict[str, Any]) -> ScenarioReport:
    """Return the report of an existing scenario; FileExistsError if the scenario has other settings."""
    if protocol.get("town") != settings:
        raise FileExistsError(
            f"{scenario} was generated with {protocol.get('town')}, not with {settings}; remove it or choose another folder"
        )
    content = protocol["content"]
    return ScenarioReport(
        scenario.name, settings["frames"], content["agents"], content["labelled"], content["hidden"], written=False
    )
