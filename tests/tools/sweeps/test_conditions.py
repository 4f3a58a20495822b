"""The conditions of sweeps over ranges, agents and laser lines, and the paper's curves beside the results."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from heal.agents.options import RunOptions
from heal.alliance import load_alliance
from heal.errors import UserError
from heal.tools.sweeps.conditions import Common, Condition, sweep_conditions
from heal.tools.sweeps.figure import draw_sweep
from heal.tools.sweeps.published import published_curves
from heal.tools.sweeps.rows import SweepRow
from tests.agents.tiny_run import save_tiny_alliance


def conditions(kind: str, common: Common) -> tuple[Condition, ...]:
    """Return the conditions of a sweep without the ego alone."""
    return sweep_conditions(kind, common)[1:]


def test_ranges_of_communication_have_the_ground_truth_of_the_largest() -> None:
    alone, *runs = sweep_conditions("range", Common(RunOptions(comm_range_m=100.0), 1000))
    assert [run.options.ego_range_m for run in runs] == [run.x for run in runs] == [20.0, 40.0, 60.0, 80.0, 100.0]
    assert {run.options.truth_range_m for run in (alone, *runs)} == {100.0}


def test_agents_are_added_in_the_order_of_the_types() -> None:
    assert [run.name for run in conditions("agents", Common(RunOptions(), 1000, ("m1", "m3", "m2")))] == [
        "m1",
        "m1 + m3",
        "m1 + m3 + m2",
    ]
    some = conditions("agents", Common(RunOptions(agents=4), 1000, ("m1", "m3")))
    assert [run.name for run in some] == ["m1", "m1 + m3", "3 agents", "4 agents"]
    alike = conditions("agents", Common(RunOptions(), 1000, ("m1",)))
    assert [(run.name, run.options.agents, run.x) for run in alike][::4] == [("1 agent", 1, 1), ("5 agents", 5, 5)]


def test_laser_lines_are_halved_until_all_have_the_fewest() -> None:
    runs = conditions("lines", Common(RunOptions(), 1000, (), {"m1": 64, "m3": 32}))
    assert [run.options.lidar_lines for run in runs] == [{"m1": 64, "m3": 32}, {"m1": 32, "m3": 16}, {"m1": 16, "m3": 16}]
    with pytest.raises(UserError, match="no agent type of the run has one"):
        conditions("lines", Common(RunOptions(), 1000))


def test_what_runs_have_in_common_is_read_from_the_alliance(tmp_path: Path) -> None:
    alliance = load_alliance(save_tiny_alliance(tmp_path))
    common = Common.of(alliance, RunOptions(lidar_lines={"m1": 32}), "m1,m1")
    assert common == Common(RunOptions(lidar_lines={"m1": 32}), 4 * 8 * 32 * 32, ("m1", "m1"), {"m1": 32})
    (tmp_path / "types.json").write_text('{"a": {"1": "m1", "2": "m1"}}')
    assert Common.of(alliance, RunOptions(), str(tmp_path / "types.json")) == Common(RunOptions(), 32768, (), {"m1": 64})


def test_published_curves_are_those_of_the_paper() -> None:
    noise, codec = ({curve.method: curve for curve in published_curves(kind, 3200)} for kind in ("noise", "codec"))
    assert list(noise) == list(codec) == ["HEAL", "HM-ViT", "V2X-ViT", "CoBEVT"]
    heal = noise["HEAL"]
    assert (heal.x[1], heal.ap["0.5"][1], heal.ap["0.7"][1]) == (0.2, 0.869, 0.712)
    assert codec["HEAL"].x == (3200, 1600, 800, 400, 200, 100) and codec["HEAL"].ap["0.7"][-1] == 0.806
    with pytest.raises(UserError, match="noise and codec, and none for delay"):
        published_curves("delay", 3200)


def test_the_figure_cites_the_paper_where_its_curves_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **options: drawn.append(figure) or save(figure, *args, **options))
    ap = {"0.3": 0.9, "0.5": 0.8, "0.7": 0.7}
    rows = [SweepRow("gaussian", size, f"{size}", ap, ap, None, None, 1.0, 1.0, 0.0, 1, 1) for size in (0.0, 0.2)]
    for published in ((), published_curves("noise", 3200)):
        draw_sweep(rows, "noise", "a town", tmp_path / "sweep.png", published=published)
    own, beside = ([line for axes in figure.axes for line in axes.get_lines()] for figure in drawn)
    assert len(own) == 2 and len(beside) == 2 + 2 * 4
    assert [text.get_text() for legend in drawn[1].legends for text in legend.get_texts()] == [
        "gaussian",
        *(f"{method} on OPV2V-H (HEAL, ICLR 2024)" for method in ("HEAL", "HM-ViT", "V2X-ViT", "CoBEVT")),
    ]
