"""`heal bench train` measures the real step in both forms, which reach the same loss; without the plain form there is no ratio."""

from dataclasses import replace

import pytest

from heal.tools.benches.train import Case, bench_case, our_step, paper_cases, plain_step, step_flops
from tests.tools.training.small_training import SETTINGS, SOURCE

SMALL = Case("small", SETTINGS, SOURCE)
FROZEN = Case("frozen", replace(SETTINGS, training=replace(SETTINGS.training, frozen_base=True, max_agents=1)), SOURCE)


@pytest.mark.parametrize("case", [SMALL, FROZEN], ids=lambda case: case.name)
def test_both_forms_learn_the_same(case: Case) -> None:
    ours, plain = our_step(case, *case.prepared()), plain_step(case, *case.prepared())
    assert ours() == pytest.approx(plain(), rel=1e-5)
    assert ours() == pytest.approx(plain(), rel=0.05)


def test_rows_of_a_small_training() -> None:
    row, memory = bench_case(SMALL, repeats=2)
    assert row.name == "small" and row.seconds and row.flops and row.speedup_over_plain
    assert memory.name == "small-memory" and memory.value is not None
    assert step_flops(FROZEN, *FROZEN.prepared()) < step_flops(SMALL, *SMALL.prepared())


def test_without_the_plain_form_there_is_no_ratio() -> None:
    [row] = bench_case(SMALL, plain=False, repeats=1)
    assert row.seconds and row.speedup_over_plain is None


def test_the_paper_cases_have_the_papers_size() -> None:
    first, second = paper_cases()
    assert (first.name, second.name) == ("train/stage1", "train/stage2")
    assert first.settings.base.grid.nx == 256 and not first.settings.training.frozen_base
    assert second.settings.training.frozen_base and second.settings.training.max_agents == 1
