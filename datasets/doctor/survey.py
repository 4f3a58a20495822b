"""Open all splits of a data set, and tell which sensor data they have: everything that is known before a scene is read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from heal.datasets.damage import has_images
from heal.datasets.dataset import Dataset, DatasetError
from heal.datasets.doctor.facts import Installed
from heal.datasets.doctor.finding import Finding
from heal.datasets.lidar import spread
from heal.datasets.open import CULVER_CITY, OPV2V_SPLITS, open_dataset
from heal.datasets.opv2v.source import NO_LABELS
from heal.datasets.split_names import NoSplitError
from heal.types import WHOLE_SWEEP, SensorChoice, recording_of

LABELS_ALONE = SensorChoice(lidar=False)
LOOKED_AT = 64  # scenes of a split that tell which sensors it has
JUDGED = 8  # scenes of a recording whose boxes are counted
LISTS = "get train.json and val.json of the complemented labels, or cooperative-split-data.json, and put them into the folder"


def open_splits(root: Path) -> tuple[list[Dataset], list[Finding]]:
    """Open every split of a data set; return them, and findings about those that are missing or cannot be opened."""
    tried = [_open(root, split) for split in (*OPV2V_SPLITS, CULVER_CITY)]
    opened = [each for each in tried if not isinstance(each, DatasetError)]
    absent = [each for each in tried if isinstance(each, NoSplitError) and CULVER_CITY not in each.path.name]
    failed = [each for each in tried if isinstance(each, DatasetError) and not isinstance(each, NoSplitError)]
    findings = [
        Finding("unknown-layout" if error.path == root else "split-unusable", error.path, "a split that can be opened", error.cause)
        for error in failed
    ]
    if not opened and not findings:
        remedy = LISTS if absent[0].path.suffix == ".json" else ""
        return [], [Finding("split-unusable", absent[0].path, "at least one split", absent[0].cause, remedy)]
    # A test split of DAIR-V2X-C is not published.
    missing = [error for error in absent if not (error.path.suffix == ".json" and "test" in error.path.name)]
    findings += [Finding("split-missing", error.path, "the split", error.cause) for error in missing]
    return opened, list(dict.fromkeys(findings))


def _open(root: Path, split: str) -> Dataset | DatasetError:
    try:
        return open_dataset(root, split, on_damage="skip", max_agents=sys.maxsize)
    except DatasetError as error:
        return error


def installed_in(source: Dataset) -> Installed:
    """Tell which sensor data a split has at all, by some of its scenes."""
    scenes = spread(range(len(source)), LOOKED_AT)
    thinned = (lines for lines in (16, 32) if _has_clouds(source, scenes, replace(WHOLE_SWEEP, beams=lines), WHOLE_SWEEP))
    return Installed(
        lidar=_has_clouds(source, scenes, WHOLE_SWEEP),
        thinned=tuple(thinned),
        cameras=has_images(source, scenes),
        depth=has_images(source, scenes, depth=True),
    )


def _has_clouds(source: Dataset, scenes: list[int], choice: SensorChoice, *without: SensorChoice) -> bool:
    """Whether any file exists that a choice of clouds reads, and labels alone and other choices do not."""
    for index in scenes:
        for agent_id in source.listed(index).agent_ids:
            try:
                others = {path for other in (LABELS_ALONE, *without) for path in source.frame_origin(index, agent_id, other).files}
                files = source.frame_origin(index, agent_id, choice).files
            except DatasetError:
                continue  # no such sensor, or metadata that cannot be read, which is named where the scene is read
            if any(path.exists() for path in files if path not in others):
                return True
    return False


def sensor_findings(source: Dataset, installed: Installed) -> Iterator[Finding]:
    """Yield a finding if a split has no cloud: it can be used with its images alone, and not without any."""
    split, wanted = source.summary.split, source.summary.root / source.summary.split
    if not installed.lidar and not installed.cameras:
        remedy = "unpack the archives of the clouds and images there"
        yield Finding("split-unusable", wanted, "clouds or camera images", "none of both", remedy, split)
    elif not installed.lidar:
        yield Finding("archive-missing", wanted, "clouds, for agent types with LiDAR", "nothing", split=split)


def judged_scenes(source: Dataset) -> set[int]:
    """Return the scenes whose boxes are counted: some of each recording, evenly spread."""
    of_recording: dict[str, list[int]] = {}
    for index in range(len(source)):
        of_recording.setdefault(recording_of(source.listed(index).scene_id), []).append(index)
    return {index for indices in of_recording.values() for index in spread(indices, JUDGED)}


def summary_findings(source: Dataset) -> Iterator[Finding]:
    """Yield a finding for everything that the reader of a split leaves out."""
    summary = source.summary
    for part, reason in summary.skipped:
        place = summary.root / summary.split / part
        path = place if place.exists() or place.with_suffix(".yaml").exists() else summary.root / part
        if reason.startswith(NO_LABELS):
            # The reader itself leaves the scene out when it opens the split.
            yield Finding("no-labels", path, "an entry 'vehicles'", reason, split=summary.split)
        elif "frames that" in reason:
            yield Finding("no-partner", path, "frames of all agents", reason, split=summary.split)
        else:
            yield Finding("left-out", path, "a part that can be read", reason, split=summary.split)
