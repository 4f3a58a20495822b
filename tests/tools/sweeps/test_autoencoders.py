"""A sweep of codecs with compressors: a run for each ratio, with fewer bytes the larger it is; none without, or in other sweeps."""

from __future__ import annotations

from pathlib import Path

import torch

from heal.agents.options import RunOptions
from heal.alliance import TrainingRecord, load_alliance
from heal.layers.compressor import Compressor, CompressorConfig
from heal.storage.compressors import save_compressor
from heal.tools.sweeps.chunk import Chunk, run_chunk
from heal.tools.sweeps.conditions import Common, sweep_conditions
from tests.agents.tiny_run import save_tiny_alliance


def test_each_compressor_is_a_point_of_two_lines(tmp_path: Path) -> None:
    base_hash = load_alliance(save_tiny_alliance(tmp_path)).base_hash
    torch.manual_seed(0)
    for ratio in (8, 2):
        save_compressor(tmp_path, Compressor(CompressorConfig(channels=8, ratio=ratio)), base_hash, TrainingRecord())
    ratios = load_alliance(tmp_path).compressors
    conditions = [
        one for one in sweep_conditions("codec", Common(RunOptions(), 4096, ratios=ratios)) if one.series.startswith("autoencoder")
    ]
    assert [one.name for one in conditions] == [
        *("feature: float32,ae:2", "feature: float32,ae:8"),
        *("feature: int8,ae:2,zstd", "feature: int8,ae:8,zstd"),
    ]
    totals = run_chunk(Chunk(tmp_path, "town", "test", None, 5, range(1), None), conditions)
    sizes = [total.counts.bytes_per_message for total in totals]
    assert sizes[:2] == [4 * 32 * 32 * 4 + 384, 1 * 32 * 32 * 4 + 384]
    assert sizes[3] < sizes[2] < sizes[0]
    assert all(total.counts.used == total.counts.sent > 0 for total in totals)


def test_without_compressors_and_in_other_sweeps_there_is_none() -> None:
    plain = sweep_conditions("codec", Common(RunOptions(), 4096))
    assert not any("ae:" in one.name for one in plain)
    assert sweep_conditions("loss", Common(RunOptions(), 4096, ratios=(8,))) == sweep_conditions("loss", Common(RunOptions(), 4096))
