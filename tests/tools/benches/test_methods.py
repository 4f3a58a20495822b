"""`heal bench methods` measures every fusion with the networks of its recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heal.fusion.coalign import CoAlignConfig
from heal.fusion.maximum import MaximumConfig
from heal.fusion.table import known_fusions
from heal.tools.benches import methods
from heal.tools.benches.measure import Timing
from heal.tools.benches.methods import AGENTS, bench_methods, method_scene
from heal.tools.benches.setup import WIDE, BenchSetup, PaperScene, paper_scene
from tests.configs.recipes import recipe

SETUP = BenchSetup(Path())


def pair(grid: Any = WIDE) -> PaperScene:
    return paper_scene(SETUP, ("m1", "m1"), grid)


@pytest.mark.parametrize(("fusion", "name"), [(MaximumConfig(), "fcooper"), (CoAlignConfig(), "coalign")])
def test_the_networks_are_those_of_the_recipe(fusion: Any, name: str) -> None:
    found, published = method_scene(pair(), fusion), recipe(f"opv2v/baselines/lidar_{name}")
    wanted = replace(published.base, grid=found.base.config.grid, fusion=fusion, decode=found.base.config.decode)
    assert replace(found.base.config, shrink_sizes=wanted.shrink_sizes, shrink_strides=wanted.shrink_strides) == wanted
    assert found.agents["m1"].config == published.agents["m1"]
    assert found.base.config.grid.cell_m == published.base.grid.cell_m


def test_every_fusion_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(*calls: Callable[[], Any], repeats: int) -> tuple[Timing, ...]:
        return tuple(Timing(float(i + 1), 0.0) for i in range(len(calls)))

    monkeypatch.setattr(methods, "timed", timed)
    monkeypatch.setattr(methods, "count_flops", lambda call: 5e11)
    monkeypatch.setattr(methods, "yardstick_flops_per_s", lambda device, precision: 1e12)
    monkeypatch.setattr(methods, "method_scene", lambda own, fusion: own)
    rows = bench_methods(SETUP)
    assert [row.name for row in rows] == [f"methods/{settings().kind}" for settings in known_fusions()]
    assert {row.note for row in rows} == {f"{AGENTS} m1 agents; 0.50 of Pyramid Fusion with 2 in the same rounds"}
    assert all(row.yardstick_fraction == pytest.approx(0.5) for row in rows)
