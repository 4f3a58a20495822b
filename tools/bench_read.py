"""Reading: files on disk to tensors, without and with a cache, one thread."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

from heal.agent_model import AgentConfig
from heal.config import load_config
from heal.datasets.open import open_dataset
from heal.encoders.lidar import lidar_clouds
from heal.encoders.point_pillars import PointPillarsConfig, pillar_grid
from heal.tools.bench_frame import written
from heal.tools.bench_row import BenchRow, Timing, timed
from heal.tools.bench_setup import PLAIN_REPEATS, WIDE, BenchSetup, bench_town, one_thread
from heal.tools.paths import type_path
from heal.types import SceneSource
from heal.voxelize import VoxelGrid, voxelize


def bench_read(setup: BenchSetup) -> list[BenchRow]:
    """The rows of `heal bench read`: two clouds of DAIR-V2X-C where its folder is given, two of the town as OPV2V has them."""
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        return [*_dair(setup, Path(folder)), *_opv2v(setup, Path(folder))]


def _dair(setup: BenchSetup, folder: Path) -> list[BenchRow]:
    root = setup.data
    if root is None:
        return []
    plain, voxels = setup.naive("readers"), setup.naive("voxels")
    slow = None
    if plain is not None and voxels is not None:
        [slow] = timed(lambda: voxels.voxelize(plain.read_dair_clouds(root, "val", 0), _pillars()), repeats=PLAIN_REPEATS)
    return _pair(setup, "dair", functools.partial(open_dataset, root, "val"), folder / "dair-cache", slow)


def _opv2v(setup: BenchSetup, folder: Path) -> list[BenchRow]:
    town = bench_town(2)
    written(town, folder / "town", frozenset({"lidar"}))
    return _pair(setup, "opv2v", functools.partial(open_dataset, folder / "town", town.split), folder / "town-cache", None)


def _pair(setup: BenchSetup, name: str, opened: Callable[..., SceneSource], cache: Path, slow: Timing | None) -> list[BenchRow]:
    """Two agents' clouds of one scene to pillars: from the files, and from a cache that has them."""
    files, kept = opened(), opened(cache=cache)
    direct, cached = timed(lambda: _to_pillars(files), lambda: _to_pillars(kept), repeats=3 * setup.repeats)
    words = f"{direct.seconds / cached.seconds:.1f} times as fast as from the files"
    return [
        BenchRow.of(f"read/{name}", direct, "two clouds, disk to pillars", slow),
        BenchRow.of(f"read/{name}-cached", cached, words),
    ]


def _to_pillars(source: SceneSource) -> object:
    ids = source.outline(0).agent_ids[:2]
    return voxelize(lidar_clouds([source.agent_frame(0, agent_id) for agent_id in ids]), _pillars())


@functools.cache
def _pillars() -> VoxelGrid:
    encoder = load_config(AgentConfig, type_path("m1")).encoder
    assert isinstance(encoder, PointPillarsConfig), "m1 is of pillars"
    return pillar_grid(encoder, WIDE, training=False)
