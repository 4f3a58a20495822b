"""A planned fault that can hit nothing is refused before the run, with what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from heal.agent_types import same_type
from heal.agents.deployment import PlannedFault
from heal.errors import UserError
from heal.tools.checks.planned_faults import require_targets
from tests.agents.tiny_run import TinySource, save_tiny_alliance
from tests.tools.command import run_command

SOURCE = TinySource()


@pytest.mark.parametrize(
    ("text", "runtime", "sentence"),
    [
        ("crash:b@1,crash:9999@3", "ray", "^fault crash:9999@3: no agent 9999 in tick 3; there are ego, b, c, and node for the"),
        ("hang:b@6", "ray", "^fault hang:b@6: no agent b in tick 6; there are d, ego, and node"),
        ("crash:b@8", "ray", "^fault crash:b@8: no tick 8 in this run, whose ticks are 0 to 7$"),
        ("hang:node@8", "ray", "^fault hang:node@8: no tick 8 in this run"),
        ("crash:b@1", "local", "^fault crash:b@1: --runtime local has no processes that could break; use --runtime ray$"),
    ],
)
def test_a_fault_for_nobody_is_refused_with_what_there_is(text: str, runtime: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        require_targets(PlannedFault.parse(text), runtime, SOURCE, range(8), same_type("m1"))


def test_a_fault_that_can_hit_is_planned() -> None:
    faults = PlannedFault.parse("crash:b@4,hang:d@5,crash:node@7")
    require_targets(faults, "ray", SOURCE, range(8), same_type("m1"))
    require_targets((), "local", SOURCE, range(8), same_type("m1"))
    with pytest.raises(UserError, match="no tick 7 in this run"):  # the same faults in a run that is a tick shorter
        require_targets(faults, "ray", SOURCE, range(7), same_type("m1"))


def test_simulate_refuses_it_before_it_writes_anything(tmp_path: Path) -> None:
    common = ("simulate", "--alliance", save_tiny_alliance(tmp_path / "alliance"), "--preset", "test", "--ticks", 2)
    with pytest.raises(UserError, match=r"no agent 9999 in tick 1; there are 1\d*, "):
        run_command(*common, "--out", tmp_path / "out", "--fault", "crash:9999@1")
    assert not (tmp_path / "out").exists()
