"""What comes after the networks: decoding with suppression of duplicates, and average precision."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from heal.base_model import BaseConfig, BaseModel
from heal.boxes import boxes_to_corners
from heal.decode import decode
from heal.detections import Detections, GroundTruth
from heal.head import HeadOutput
from heal.metrics import IOU_THRESHOLDS, ApAccumulator
from heal.targets import encode_boxes
from heal.tools.bench_row import BenchRow, timed
from heal.tools.bench_setup import PLAIN_REPEATS, SEED, WIDE, BenchSetup

# Around every vehicle the two anchors of so many rows and columns of cells claim it.
BLOCK = (2, 4)
CANDIDATES_EACH = 2 * BLOCK[0] * BLOCK[1]
CANDIDATES = (250, 1000, 4000)
FRAMES, PLAIN_FRAMES, BOXES = 10_000, 50, 50


def bench_post(setup: BenchSetup) -> list[BenchRow]:
    """The rows of `heal bench post`: the head's output to detections."""
    return [_post(setup, BaseModel(BaseConfig(grid=WIDE)), count) for count in CANDIDATES]


def _post(setup: BenchSetup, base: BaseModel, count: int) -> BenchRow:
    anchors, settings = base.anchors(), base.config.decode
    head, plain = claimed(anchors, count), setup.naive("detections") if count <= settings.max_candidates else None
    there = int((head.classification.sigmoid() > settings.score_threshold).sum())
    [timing] = timed(lambda: decode(head, anchors, settings, WIDE.range_m), repeats=3 * setup.repeats)
    slow = None if plain is None else timed(lambda: plain.decode(head, anchors, settings, WIDE.range_m), repeats=PLAIN_REPEATS)[0]
    return BenchRow.of(f"post/{count}", timing, f"{there} candidates, {CANDIDATES_EACH} for a vehicle", slow)


def claimed(anchors: Tensor, count: int) -> HeadOutput:
    """A head's output in which about so many anchors claim vehicles, those next to each other the same ones, not quite agreeing."""
    rng, (ny, nx, kinds, _) = torch.Generator().manual_seed(SEED), anchors.shape
    logits, codes = torch.full((ny, nx, kinds), -6.0), torch.zeros(ny, nx, kinds, 7)
    rows, columns = ny // BLOCK[0], nx // BLOCK[1]
    for place in torch.randperm(rows * columns, generator=rng)[: round(count / CANDIDATES_EACH)].tolist():
        row, column = place // columns * BLOCK[0], place % columns * BLOCK[1]
        here = (slice(row, row + BLOCK[0]), slice(column, column + BLOCK[1]))
        vehicle = anchors[row, column, 0] + torch.randn(7, generator=rng) * torch.tensor([0.5, 0.5, 0.1, 0.1, 0.1, 0.3, 0.3])
        noisy = vehicle + 0.05 * torch.randn(*anchors[here].shape, generator=rng)
        codes[here] = encode_boxes(noisy, anchors[here]).float()
        logits[here] = torch.rand(logits[here].shape, generator=rng) * 3 - 1
    direction = torch.zeros(1, 2 * kinds, ny, nx)
    return HeadOutput(logits.permute(2, 0, 1)[None], codes.flatten(2).permute(2, 0, 1)[None], direction)


def bench_ap(setup: BenchSetup) -> list[BenchRow]:
    """The row of `heal bench ap`: frames with as many detections as objects, most of them found."""
    frames = list(made_frames(FRAMES))
    plain, few = setup.naive("detections"), frames[:PLAIN_FRAMES]
    [timing] = timed(lambda: _average_precision(frames), repeats=min(setup.repeats, 3), warm_up=0)
    words = f"{FRAMES} frames, {BOXES} boxes each"
    if plain is None:
        return [BenchRow.of("ap/10000", timing, words)]
    ours, slow = timed(lambda: _average_precision(few), lambda: plain.average_precision(few, IOU_THRESHOLDS), repeats=PLAIN_REPEATS)
    row = BenchRow.of(f"ap/{PLAIN_FRAMES}", ours, f"{PLAIN_FRAMES} frames, {BOXES} boxes each", slow)
    return [BenchRow.of(f"ap/{FRAMES}", timing, words), row]


def made_frames(count: int) -> Iterator[tuple[Detections, GroundTruth]]:
    """Objects all over the range, and detections that miss them by some decimetres."""
    rng = np.random.default_rng(SEED)
    low, high = np.array(WIDE.range_m[:2]), np.array(WIDE.range_m[3:5])
    for _ in range(count):
        places = rng.uniform(low, high, (BOXES, 2))
        sizes = np.tile([1.56, 1.8, 4.2], (BOXES, 1))
        boxes = np.concatenate([places, np.zeros((BOXES, 1)), sizes, rng.uniform(-np.pi, np.pi, (BOXES, 1))], axis=1)
        missed = boxes + rng.normal(0, [0.3, 0.3, 0, 0, 0.1, 0.2, 0.1], boxes.shape)
        scores = torch.from_numpy(np.sort(rng.random(BOXES))[::-1].astype(np.float32).copy())
        found, true = (boxes_to_corners(torch.from_numpy(part).float()) for part in (missed, boxes))
        yield Detections(found, scores), GroundTruth(true, torch.arange(BOXES))


def _average_precision(frames: list[tuple[Detections, GroundTruth]]) -> object:
    accumulator = ApAccumulator()
    for detections, ground_truth in frames:
        accumulator.add(detections, ground_truth)
    return accumulator.results()
