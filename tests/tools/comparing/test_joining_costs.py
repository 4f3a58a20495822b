"""The parameters that methods train when types join: those of HEAL's paper, at its sizes, and what each way of joining counts."""

from __future__ import annotations

import pytest

from heal.tools.comparing.joining import JoiningParameters, joining_parameters
from heal.tools.comparing.plan import plan_comparison
from heal.tools.comparing.spec import load_spec
from heal.tools.shared.paths import config_path
from tests.tools.command import run_command

TYPES = {"m1": 1000, "m2": 20, "m3": 300}


def test_networks_have_the_sizes_of_the_paper() -> None:
    plan = plan_comparison(load_spec(config_path("compare/opv2v.yaml"), []))
    counted = {entrant.method: joining_parameters(plan, entrant) for entrant in plan.entrants}
    assert counted["pyramid"].by_type == {"m2": 15_012_372, "m3": 1_076_032, "m4": 1_911_792}
    published = {"f_cooper": 49.22e6, "attfuse": 49.22e6, "disconet": 49.29e6, "cobevt": 51.58e6, "v2xvit": 54.62e6}
    for method, size in published.items():
        assert counted[method].at_last == pytest.approx(size, rel=2e-3), method


def test_every_way_of_joining_counts_what_it_trains() -> None:
    aligned, joint, detectors = (JoiningParameters(join, 4, TYPES) for join in ("aligned", "joint", "detectors"))
    assert aligned.by_type == {"m2": 20, "m3": 300}
    assert (aligned.in_all, aligned.at_last, aligned.one_by_one, aligned.at_once) == (1324, 300, 320, 320)
    assert joint.by_type == {"m2": 1024, "m3": 1324}
    assert (joint.in_all, joint.at_last, joint.one_by_one, joint.at_once) == (1324, 1324, 2348, 1324)
    assert detectors.by_type == {"m2": 24, "m3": 304}
    assert (detectors.in_all, detectors.at_last, detectors.one_by_one, detectors.at_once) == (1332, 304, 328, 328)
    alone = JoiningParameters("joint", 4, {"m1": 7})
    assert (alone.in_all, alone.at_last, alone.one_by_one) == (11, 0, 0)


def test_a_dry_run_shows_them() -> None:
    printed = run_command("compare", "compare/opv2v.yaml", "--dry-run", "--out", "nowhere")
    rows = [line.split() for line in printed.splitlines()]
    assert ["HEAL", "15.01", "1.08", "1.91", "18.00", "18.00", "23.46"] in rows
