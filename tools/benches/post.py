"""The stages after the networks: decoding with non-maximum suppression, and average precision."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from heal.base_model import BaseConfig, BaseModel
from heal.detection.anchors import make_anchors
from heal.detection.boxes import boxes_to_corners
from heal.detection.detections import Detections, GroundTruth
from heal.detection.head import HeadOutput
from heal.detection.metrics import IOU_THRESHOLDS, ApAccumulator
from heal.detection.targets import encode_boxes
from heal.tools.benches.measure import BenchRow, timed, timed_beside
from heal.tools.benches.plain import detections as plain_detections
from heal.tools.benches.setup import PLAIN_REPEATS, SEED, WIDE, BenchSetup

# Rows and columns of cells whose anchors, two in each cell, detect the same vehicle.
BLOCK = (2, 4)
CANDIDATES_PER_VEHICLE = 2 * BLOCK[0] * BLOCK[1]
CANDIDATES = (250, 1000, 4000)
FRAMES, PLAIN_FRAMES, BOXES = 10_000, 50, 50


def bench_post(setup: BenchSetup) -> list[BenchRow]:
    """Run `heal bench post`: convert the head's output to detections, with more and more candidates."""
    return [_post(setup, BaseModel(BaseConfig(grid=WIDE)), count) for count in CANDIDATES]


def _post(setup: BenchSetup, base: BaseModel, count: int) -> BenchRow:
    """Time the decoding of about `count` candidates, and its plain form unless the number of candidates is limited."""
    anchors, settings = make_anchors(WIDE, base.config.anchors), base.config.decode
    head, plain = head_with_candidates(anchors, count), None
    if setup.measures_plain and count <= settings.max_candidates:
        plain = functools.partial(plain_detections.decode, head, anchors, settings, WIDE.range_m)
    candidates = int((head.classification.sigmoid() > settings.score_threshold).sum())
    timing, plain_timing = timed_beside(lambda: base.detection.decode(head, WIDE.range_m), plain, 3 * setup.repeats)
    return BenchRow.of(f"post/{count}", timing, f"{candidates} candidates, {CANDIDATES_PER_VEHICLE} per vehicle", plain_timing)


def head_with_candidates(anchors: Tensor, count: int) -> HeadOutput:
    """Make a head's output with a given number of candidates. Neighbouring anchors detect the same vehicle with small differences.

    Args:
        anchors: (ny, nx, A, 7) in the ego's frame.
        count: number of anchors with a high score, rounded to whole vehicles.
    """
    rng, (ny, nx, kinds, _) = torch.Generator().manual_seed(SEED), anchors.shape
    logits, codes = torch.full((ny, nx, kinds), -6.0), torch.zeros(ny, nx, kinds, 7)
    rows, columns = ny // BLOCK[0], nx // BLOCK[1]
    for block in torch.randperm(rows * columns, generator=rng)[: round(count / CANDIDATES_PER_VEHICLE)].tolist():
        row, column = block // columns * BLOCK[0], block % columns * BLOCK[1]
        cells = (slice(row, row + BLOCK[0]), slice(column, column + BLOCK[1]))
        vehicle = anchors[row, column, 0] + torch.randn(7, generator=rng) * torch.tensor([0.5, 0.5, 0.1, 0.1, 0.1, 0.3, 0.3])
        noisy = vehicle + 0.05 * torch.randn(*anchors[cells].shape, generator=rng)
        codes[cells] = encode_boxes(noisy, anchors[cells]).float()
        logits[cells] = torch.rand(logits[cells].shape, generator=rng) * 3 - 1
    direction = torch.zeros(1, 2 * kinds, ny, nx)
    return HeadOutput(logits.permute(2, 0, 1)[None], codes.flatten(2).permute(2, 0, 1)[None], direction)


def bench_ap(setup: BenchSetup) -> list[BenchRow]:
    """Run `heal bench ap`: compute the average precision of many frames, and with the plain form that of a few frames."""
    frames = list(random_frames(FRAMES))
    [timing] = timed(lambda: _average_precision(frames), repeats=min(setup.repeats, 3), warm_up=0)
    row = BenchRow.of(f"ap/{FRAMES}", timing, f"{FRAMES} frames, {BOXES} boxes each")
    if not setup.measures_plain:
        return [row]
    few = frames[:PLAIN_FRAMES]
    ours, plain = timed(
        lambda: _average_precision(few),
        lambda: plain_detections.average_precision(few, IOU_THRESHOLDS),
        repeats=PLAIN_REPEATS,
    )
    return [row, BenchRow.of(f"ap/{PLAIN_FRAMES}", ours, f"{PLAIN_FRAMES} frames, {BOXES} boxes each", plain)]


def random_frames(count: int) -> Iterator[tuple[Detections, GroundTruth]]:
    """Make frames with as many detections as objects. The detections are off by some decimetres, so that most objects are found."""
    rng = np.random.default_rng(SEED)
    low, high = np.array(WIDE.range_m[:2]), np.array(WIDE.range_m[3:5])
    for _ in range(count):
        places = rng.uniform(low, high, (BOXES, 2))
        sizes = np.tile([1.56, 1.8, 4.2], (BOXES, 1))
        boxes = np.concatenate([places, np.zeros((BOXES, 1)), sizes, rng.uniform(-np.pi, np.pi, (BOXES, 1))], axis=1)
        detected = boxes + rng.normal(0, [0.3, 0.3, 0, 0, 0.1, 0.2, 0.1], boxes.shape)
        scores = torch.from_numpy(np.sort(rng.random(BOXES))[::-1].astype(np.float32).copy())
        found, true = (boxes_to_corners(torch.from_numpy(part).float()) for part in (detected, boxes))
        yield Detections(found, scores), GroundTruth(true, torch.arange(BOXES))


def _average_precision(frames: list[tuple[Detections, GroundTruth]]) -> object:
    """Compute the average precision over all frames as `heal evaluate` does."""
    accumulator = ApAccumulator()
    for detections, ground_truth in frames:
        accumulator.add(detections, ground_truth)
    return accumulator.results()
