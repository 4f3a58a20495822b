"""Agents read clouds of the laser lines that a command names, from an alliance that stays as it is; other lines are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import heal.tools.evaluate as evaluate_command
from heal.agents.records import TickResult
from heal.alliance import TrainingRecord, save_agent, save_base
from heal.datasets.pcd import write_pcd
from heal.tools.evaluation.plan import Plan
from heal.tools.evaluation.run import evaluate_source
from tests.agents.tiny_run import TinyAlliance
from tests.datasets.dair import dair_tree
from tests.datasets.opv2v.opv2v_tree import write_tree
from tests.tools.command import run_command

AGENTS, STAMPS = ("641", "650"), ("000068", "000070")
POINTS = {16: 1, 32: 2, 64: 3}  # in every cloud of these lines


@pytest.fixture
def alliance(tmp_path: Path) -> Path:
    tiny, path = TinyAlliance(), tmp_path / "alliance"
    base_hash = save_base(path, tiny.base, TrainingRecord())
    for name in ("m1", "m3"):
        save_agent(path, name, tiny.agent("m1"), base_hash, TrainingRecord())
    return path


def tree(folder: Path, *lines: int) -> Path:
    """Write a data set with thinned clouds of these lines."""
    root = write_tree(folder, AGENTS, STAMPS)
    for agent_id in AGENTS:
        beside = root.with_name("OPV2V_Hetero") / "test" / "scenario_a" / agent_id
        beside.mkdir(parents=True)
        for stamp in STAMPS:
            for count in lines:
                write_pcd(beside / f"{stamp}_{count}.pcd", np.full((POINTS[count], 4), 0.5, np.float32))
    return root


def command(alliance: Path, root: Path, out: Path, *options: object) -> tuple[object, ...]:
    common = ("--pictures", 1, "--frames", 1, "--threads", 1, "--types", "m1,m3", *options)
    return "evaluate", "--alliance", alliance, "--data", root, "--out", out, *common


@pytest.mark.parametrize(
    ("lines", "points"), [((), (3, 3)), (("--lines", "m3=32"), (3, 2)), (("--lines", "m1=32,m3=16"), (2, 1))], ids=str
)
def test_each_type_reads_its_lines(
    lines: tuple[str, ...], points: tuple[int, int], alliance: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results: list[TickResult] = []

    def run(plan: Plan, *_: Any) -> None:
        evaluate_source(plan.alliance, plan.source, plan.types_of, plan.runs["all agents"], plan.ticks, results.append)

    monkeypatch.setattr(evaluate_command, "run_and_report", run)
    run_command(*command(alliance, tree(tmp_path, 16, 32), tmp_path / "out", *lines))
    assert {view.agent_id: len(view.points) for view in results[0].views} == dict(zip(AGENTS, points, strict=True))


def test_the_metrics_say_what_was_read(alliance: Path, tmp_path: Path) -> None:
    run_command(*command(alliance, tree(tmp_path, 16, 32), tmp_path / "out", "--lines", "m3=16", "--cache", tmp_path / "cache"))
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["lidar_lines"] == {"m1": 64, "m3": 16}


@pytest.mark.parametrize(
    ("there", "said"), [((), r"only the agents' own clouds \(64\)"), ((32,), r"\(64\) and clouds of 32 lines")]
)
def test_lines_that_the_data_lack_are_refused(there: tuple[int, ...], said: str, alliance: Path, tmp_path: Path) -> None:
    root = tree(tmp_path, *there)
    with pytest.raises(ValueError, match=f"m1=16 laser lines: .*OPV2V has .*{said}"):
        run_command(*command(alliance, root, tmp_path / "out", "--lines", "m1=16"))
    for name, arguments in {
        "sweep": ("sweep", "lines", "--source", root, "--types", "m1"),
        "simulate": ("simulate", "--source", root, "--set", "run.lidar_lines={m1: 16}", "--runtime", "local"),
    }.items():
        with pytest.raises(ValueError, match=f"m1=(16|32) laser lines: .*{said}"):
            run_command(*arguments, "--alliance", alliance, "--out", tmp_path / name)


def test_a_data_set_with_one_cloud_for_each_agent_has_no_thinned_ones(alliance: Path, tmp_path: Path) -> None:
    root = dair_tree.write_tree(tmp_path)
    with pytest.raises(ValueError, match=r"m1=32 laser lines: .* has only the agents' own clouds \(64\)"):
        run_command(*command(alliance, root, tmp_path / "out", "--split", "val", "--lines", "m1=32"))


def test_lines_of_unknown_types_are_refused(alliance: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="m2"):
        run_command(*command(alliance, tree(tmp_path, 16, 32), tmp_path / "out", "--lines", "m2=16"))


def test_lines_of_a_type_that_no_agent_has_are_refused(alliance: Path, tmp_path: Path) -> None:
    root, lines = tree(tmp_path, 16, 32), ("--types", "m1", "--lines", "m3=16")
    with pytest.raises(ValueError, match="m3=16 laser lines: no agent has the type m3; there are m1"):
        run_command(*command(alliance, root, tmp_path / "out", *lines))
    with pytest.raises(ValueError, match="no agent has the type m3"):
        run_command("sweep", "agents", "--source", root, "--alliance", alliance, "--out", tmp_path / "sweep", *lines)


def test_a_sweep_halves_the_lines_step_by_step(alliance: Path, tmp_path: Path) -> None:
    root, out = tree(tmp_path, 16, 32), tmp_path / "out"
    options = ("--source", root, "--types", "m1,m3", "--lines", "m3=32", "--processes", 1, "--ticks", 1)
    run_command("sweep", "lines", "--alliance", alliance, "--out", out, *options)
    rows = json.loads((out / "sweep.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["ego alone", "m1=64, m3=32", "m1=32, m3=16", "m1=16, m3=16"]
