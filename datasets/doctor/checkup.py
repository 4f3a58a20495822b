"""Put the findings of a data set together: its splits in numbers, the scenes to leave out, and whether it can be used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from heal.datasets.damage import of_every_agent
from heal.datasets.damage_list import DamageList, KnownDamage, known_damaged
from heal.datasets.dataset import Dataset
from heal.datasets.doctor.calibration import check_calibration
from heal.datasets.doctor.dair_places import check_places as check_dair
from heal.datasets.doctor.facts import Installed, SceneFacts, SceneReport
from heal.datasets.doctor.finding import Finding
from heal.datasets.doctor.opv2v_places import check_places as check_opv2v
from heal.datasets.doctor.places import Places
from heal.datasets.doctor.recording import check_recording
from heal.datasets.doctor.scene import examine
from heal.datasets.doctor.survey import installed_in, judged_scenes, open_splits, sensor_findings, summary_findings
from heal.datasets.opv2v.index import VISIBILITY_SUFFIX
from heal.types import WHOLE_SWEEP, SensorChoice

Verdict = Literal["usable", "usable with exceptions", "not usable"]
CAMERAS = SensorChoice(lidar=False, cameras=True, labels="camera")


@dataclass(frozen=True)
class SplitReport:
    """One split.

    Attributes:
        source: the opened split.
        installed: the sensor data that it has.
        findings: everything found in it.
        cameras: names of the cameras with images.
    """

    source: Dataset
    installed: Installed
    findings: tuple[Finding, ...]
    cameras: frozenset[str] = frozenset()

    def usable(self, choice: SensorChoice) -> int:
        """Return the number of scenes in which every agent's data of some sensors can be used."""
        scenes, known = range(len(self.source)), damage_list(self.findings)
        return len(scenes) - len(known_damaged(self.source, scenes, of_every_agent(choice), known))

    @cached_property
    def best(self) -> int:
        """The number of scenes that can be used with the sensor that has most of them."""
        there = ((WHOLE_SWEEP, self.installed.lidar), (CAMERAS, self.installed.cameras))
        return max((self.usable(choice) for choice, found in there if found), default=0)

    def record(self) -> dict[str, Any]:
        """Return the split in plain values."""
        summary = self.source.summary
        numbers = {"scenarios": summary.scenarios, "frames": summary.frames, "agents": summary.agents, "usable": self.best}
        sensors = {"sensors": self.installed.names, "labels": summary.labels, "notes": list(summary.notes)}
        return {"layout": summary.layout, "split": summary.split, **numbers, **sensors}


# Reads all scenes of a split.
Walk = Callable[[Dataset, Installed], Iterable[SceneReport]]


def walk_in_turn(source: Dataset, installed: Installed) -> Iterator[SceneReport]:
    """Read all scenes of a split in this process."""
    judged = judged_scenes(source)
    return (examine(source, index, installed, index in judged) for index in range(len(source)))


@dataclass
class Checkup:
    """The state of a checkup: what has been found so far, also after an interruption.

    Attributes:
        splits: the splits that have been read, the last one perhaps in part.
        findings: everything that has been found.
        places: the archives, once all splits have been read.
    """

    splits: list[SplitReport] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    places: Places = field(default_factory=Places)

    def examine(self, root: Path, walk: Walk = walk_in_turn) -> None:
        """Examine all splits of a data set."""
        opened, found = open_splits(root)
        self.findings += found
        for source in opened:
            self._examine_split(source, walk)
        self.places = _check_places(self.splits)
        self.findings += self.places.findings

    def _examine_split(self, source: Dataset, walk: Walk) -> None:
        installed, reports = installed_in(source), list[SceneReport]()
        try:
            for report in walk(source, installed):
                reports.append(report)
        finally:
            split = judge_split(source, installed, reports)
            self.splits.append(split)
            self.findings += split.findings


def judge_split(source: Dataset, installed: Installed, reports: Sequence[SceneReport]) -> SplitReport:
    """Judge the scenes of a split that have been read, recording by recording."""
    recordings: defaultdict[str, list[SceneFacts]] = defaultdict(list)
    for report in reports:
        recordings[report.facts.recording].append(report.facts)
    found = [*summary_findings(source), *sensor_findings(source, installed)]
    found += [finding for report in reports for finding in report.findings]
    for scenes in recordings.values():
        found += [_in_split(finding, source) for finding in (*check_recording(scenes), *check_calibration(scenes))]
    cameras = {image.camera for report in reports for agent in report.facts.agents for image in agent.images}
    return SplitReport(source, installed, tuple(dict.fromkeys(found)), frozenset(cameras))


def _in_split(finding: Finding, source: Dataset) -> Finding:
    return replace(finding, split=source.summary.split)


def _check_places(splits: Sequence[SplitReport]) -> Places:
    """Look for missing and misplaced archives of a data set, by its layout; a layout without such a check has none."""
    if not splits:
        return Places()
    summary, together = splits[0].source.summary, _together([split.installed for split in splits])
    if summary.layout == "OPV2V":
        return check_opv2v(summary.root, together, any(_has_maps(split.source) for split in splits))
    return check_dair(summary.root, summary.labels) if summary.layout == "DAIR-V2X-C" else Places()


def _together(parts: Iterable[Installed]) -> Installed:
    every = list(parts)
    thinned = tuple(sorted({lines for part in every for lines in part.thinned}))
    return Installed(
        any(part.lidar for part in every), thinned, any(part.cameras for part in every), any(part.depth for part in every)
    )


def _has_maps(source: Dataset) -> bool:
    """Whether the labels of cameras are read from visibility maps."""
    outline = source.listed(0)
    files = source.frame_origin(0, outline.ego_id, SensorChoice(lidar=False, labels="camera")).files
    return any(path.name.endswith(VISIBILITY_SUFFIX) for path in files)


def damage_list(findings: Iterable[Finding]) -> DamageList:
    """Return the scenes that errors leave out."""
    known: defaultdict[str, defaultdict[str, list[KnownDamage]]] = defaultdict(lambda: defaultdict(list))
    for finding in findings:
        if finding.severity == "error":
            for scene_id in finding.scenes:
                files = frozenset(file.resolve() for file in finding.files)
                damage = KnownDamage(f"{finding.path}: {finding.kind}, {finding.found}", files)
                known[finding.split][scene_id].append(damage)
    return known


def verdict(splits: Sequence[SplitReport], findings: Iterable[Finding]) -> Verdict:
    """Say whether a data set can be used: not at all where no split has a scene left, with exceptions where an error is found."""
    if not any(split.best for split in splits):
        return "not usable"
    return "usable with exceptions" if any(finding.severity == "error" for finding in findings) else "usable"
