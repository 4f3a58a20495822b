"""Read one scene with everything that its data set has, and judge its files and labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from heal.box_corners import YAW, corners_to_boxes
from heal.datasets.damage import image_files
from heal.datasets.dataset import Dataset, DatasetError
from heal.datasets.doctor.evidence import cloud_hits, image_hits, view_share
from heal.datasets.doctor.facts import AgentFacts, CloudFacts, ImageFacts, Installed, SceneFacts, SceneReport
from heal.datasets.doctor.finding import Finding
from heal.datasets.doctor.image_form import image_form
from heal.datasets.doctor.labels import check_labels
from heal.datasets.files import missing_cause, read_depth, read_image
from heal.types import WHOLE_SWEEP, AgentFrame, Float64, SensorChoice

Value = TypeVar("Value")
LABELS_ALONE = SensorChoice(lidar=False)
LARGEST_MEDIAN_M, SMALLEST_MEDIAN_M = 500.0, 0.5  # of the distances of a cloud's points
CENTRE_SHARE = 0.2  # of the image's width or height
# What a reader may raise where a file is not as expected; no such file stops the doctor.
_FAULTS = (ValueError, KeyError, TypeError, OSError, ArithmeticError, RecursionError)


def examine(source: Dataset, index: int, installed: Installed, judged: bool) -> SceneReport:
    """Read scene `index`.

    Args:
        source: the data set.
        index: number of the scene.
        installed: the sensor data to read.
        judged: whether boxes are counted in clouds and images, which takes longer than reading.
    """
    outline = source.listed(index)
    findings: list[Finding] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a summary of the data set says what readers warn of
        parts = [_examine_agent(source, index, agent_id, installed, judged, findings) for agent_id in outline.agent_ids]
        _attempt(source.scene_origin(index).files, lambda: source.scene_objects(index), findings)
    known = [part for part in parts if part is not None]
    hits = cloud_hits([frame for _, frame in known]) if judged else {}
    facts = SceneFacts(outline.scene_id, tuple(facts for facts, _ in known), hits)
    of_scene = dict.fromkeys(replace(finding, split=source.summary.split, scenes=(outline.scene_id,)) for finding in findings)
    return SceneReport(facts, tuple(of_scene))


def _examine_agent(
    source: Dataset, index: int, agent_id: str, installed: Installed, judged: bool, findings: list[Finding]
) -> tuple[AgentFacts, AgentFrame] | None:
    """Read an agent's frame and append findings; None if its pose or labels cannot be read."""
    try:
        files = source.frame_origin(index, agent_id, LABELS_ALONE).files
    except DatasetError as error:
        findings.append(damage(error))
        return None
    frame = _attempt(files, lambda: source.agent_frame(index, agent_id, LABELS_ALONE), findings)
    if frame is None:
        return None
    label_file = next((path for path in files if "label" in path.parent.name or "label" in path.parent.parent.name), files[0])
    findings += check_labels(frame, label_file)
    boxes = corners_to_boxes(frame.objects.world_corners)
    facts = AgentFacts(
        agent_id, frame.timestamp_ns, frame.world_SE3_agent, files[0], label_file, frame.objects.ids, boxes[:, :3], boxes[:, YAW]
    )
    for lines in installed.thinned:
        _read_cloud(source, index, agent_id, replace(WHOLE_SWEEP, beams=lines), findings)
    if installed.lidar:
        swept = _read_cloud(source, index, agent_id, WHOLE_SWEEP, findings)
        if swept is not None:
            frame, facts = replace(frame, lidar=swept[0].lidar), replace(facts, cloud=swept[1])
    if installed.cameras:
        facts = _with_images(source, index, facts, installed.depth, judged, findings)
    return facts, frame


def _read_cloud(
    source: Dataset, index: int, agent_id: str, choice: SensorChoice, findings: list[Finding]
) -> tuple[AgentFrame, CloudFacts] | None:
    """Read a cloud and append findings; None if it cannot be read."""
    labels = source.frame_origin(index, agent_id, LABELS_ALONE).files
    files = [path for path in source.frame_origin(index, agent_id, choice).files if path not in labels]
    frame = _attempt(files, lambda: source.agent_frame(index, agent_id, choice), findings)
    if frame is None or frame.lidar is None or not files:
        return None
    points, path = frame.lidar.points, files[0]
    if not len(points):
        findings.append(Finding("empty-cloud", path, "points", "0 points", files=(path,)))
        return None
    distance_m = float(np.median(np.linalg.norm(points[:, :3], axis=1)))
    if not SMALLEST_MEDIAN_M <= distance_m <= LARGEST_MEDIAN_M:
        expected = f"points in metres, half of them within {SMALLEST_MEDIAN_M:g} to {LARGEST_MEDIAN_M:g} m"
        findings.append(Finding("cloud-units", path, expected, f"half of them within {distance_m:g}", files=(path,)))
    return frame, CloudFacts(path, len(points), distance_m, float(points[:, 3].max()))


def _with_images(source: Dataset, index: int, facts: AgentFacts, depth: bool, judged: bool, findings: list[Finding]) -> AgentFacts:
    """Read an agent's images, add their facts, and append findings."""
    choice = SensorChoice(lidar=False, cameras=True, depth=depth, labels="camera")
    try:
        of_images, of_depth = image_files(source, index, facts.agent_id, choice)
    except DatasetError as error:
        # The list of the frames is at fault, not a file: only runs with cameras ask for what it does not name.
        findings.append(replace(damage(error), files=(error.path / f"images of {facts.agent_id}",)))
        return facts
    found: list[Finding] = []
    frame = _attempt([*of_images, *of_depth], lambda: source.agent_frame(index, facts.agent_id, choice), found)
    if frame is None:
        found += _damaged_images(of_images, read_image) + _damaged_images(of_depth, read_depth)
        findings += found
        return facts
    images = [
        ImageFacts(view.name, path, (view.image.shape[1], view.image.shape[0]), image_form(path))
        for view, path in zip(frame.cameras, of_images, strict=False)
    ]
    for view, image in zip(frame.cameras, images, strict=False):
        findings += _check_centre(view.intrinsic[:2, 2], image)
    if judged:
        seen = image_hits(frame.cameras, frame.world_SE3_agent, frame.objects)
        facts = replace(facts, seen=seen, view_share=view_share(frame.cameras))
    return replace(facts, images=tuple(images))


def _damaged_images(paths: Sequence[Path], read: Callable[[Path], object]) -> list[Finding]:
    """Read images one by one; a missing one is named already."""
    found: list[Finding] = []
    for path in paths:
        if path.exists():
            _attempt([path], partial(read, path), found)
    return found


def _check_centre(centre_px: Float64, image: ImageFacts) -> Iterator[Finding]:
    """Yield a finding if the centre of a camera matrix lies far from the image's: one of both was scaled without the other."""
    offset = np.abs(centre_px - np.array(image.size_px) / 2) / image.size_px
    if offset.max() > CENTRE_SHARE:
        width, height = image.size_px
        found = f"{centre_px[0]:.0f}, {centre_px[1]:.0f} in an image of {width} x {height} pixels"
        yield Finding("image-centre", image.path, f"a principal point near {width // 2}, {height // 2}", found)


def _attempt(files: Sequence[Path], read: Callable[[], Value], findings: list[Finding]) -> Value | None:
    """Read a value and return it; None if a file is missing or damaged, which is appended to the findings."""
    missing = [path for path in files if not path.exists()]
    findings += [damage(DatasetError(path, missing_cause(path))) for path in missing]
    if missing:
        return None
    try:
        return read()
    except DatasetError as error:
        findings.append(damage(error))
    except _FAULTS as error:
        path = files[0] if files else Path()
        findings.append(damage(DatasetError(path, f"{type(error).__name__}: {error}")))
    return None


def damage(error: DatasetError) -> Finding:
    """Return the finding of a file that is missing or cannot be read."""
    kind, expected = ("damaged-file", "a readable file") if error.path.exists() else ("missing-file", "the file")
    return Finding(kind, error.path, expected, " ".join(error.cause.split()), files=(error.path,))
