"""`heal bench train`: it measures the real step, both ways reach the same loss, and without the plain form there are no ratios."""

from dataclasses import replace

import pytest
import torch

from heal.tools import bench_train
from heal.tools.benches.train import Case, bench_case, counted_flops, naive_step, our_step, paper_cases
from heal.tools.naive import naive
from tests.tools.training.small_training import SETTINGS, SOURCE

SMALL = Case("small", SETTINGS, SOURCE)
FROZEN = Case("frozen", replace(SETTINGS, training=replace(SETTINGS.training, frozen_base=True, max_agents=1)), SOURCE)


@pytest.mark.parametrize("case", [SMALL, FROZEN], ids=lambda case: case.name)
def test_both_ways_learn_the_same(case: Case) -> None:
    ours, plain = our_step(case, *case.prepared()), naive_step(case, *case.prepared())
    assert plain is not None
    assert ours() == pytest.approx(plain(), rel=1e-5)
    assert ours() == pytest.approx(plain(), rel=0.05)


def test_rows_of_a_small_training() -> None:
    row, memory = bench_case(SMALL, repeats=2)
    assert row.name == "small" and row.seconds and row.flops and row.speedup_over_naive
    assert memory.name == "small-memory" and memory.value is not None
    assert counted_flops(FROZEN, *FROZEN.prepared()) < counted_flops(SMALL, *SMALL.prepared())


def test_the_paper_cases_are_of_its_size() -> None:
    first, second = paper_cases()
    assert (first.name, second.name) == ("train/stage1", "train/stage2")
    assert first.settings.base.grid.nx == 256 and not first.settings.training.frozen_base
    assert second.settings.training.frozen_base and second.settings.training.max_agents == 1


def test_without_the_plain_form_there_is_no_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    assert naive("no such form") is None and naive("training") is not None
    monkeypatch.setattr(bench_train, "naive", lambda _: None)
    assert naive_step(SMALL, *SMALL.prepared()) is None
    assert torch.get_num_threads() >= 1
