"""Runs without a single object: there is no average precision, in no file and in no table, and the heading error is reported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.table import Table

from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.datasets.dataset import DatasetSummary
from heal.detection.detections import GroundTruth
from heal.detection.visibility import SceneVisibility
from heal.tools.evaluation.results import write_scores
from heal.tools.report.history import ReportData
from heal.tools.report.page import Report, page_of, render_page
from heal.tools.shared.output import Output, WriteErrors
from heal.tools.shared.run_log import RunLog
from heal.tools.shared.scoring import RunScore, evaluations_table, record_evaluation, score_table
from heal.tools.sweeps.chunk import RunTotals
from heal.tools.sweeps.conditions import ALONE, Condition
from heal.tools.sweeps.figure import draw_sweep
from heal.tools.sweeps.rows import make_row, sweep_table
from tests.agents.made_ticks import RANGE_M, boxes_at, made_tick
from tests.tools.command import MADE_BY

NO_AP = {"0.3": None, "0.5": None, "0.7": None}


def without_objects(tick: TickResult) -> TickResult:
    return replace(tick, ground_truth=GroundTruth(boxes_at(), torch.arange(0)))


def score_of(*ticks: TickResult) -> RunScore:
    score = RunScore(RANGE_M)
    for tick in ticks:
        score.add(tick)
    return score


def text_of(table: Table | None) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


@pytest.fixture
def empty() -> RunScore:
    return score_of(without_objects(made_tick(0)), without_objects(made_tick(1, found=0)))


def test_metrics_hold_null_and_tables_say_so(empty: RunScore, tmp_path: Path) -> None:
    summary = DatasetSummary("OPV2V", tmp_path, "test", 1, 1, 1, labels="own labels", notes=("a note",))
    write_scores({"all agents": empty}, {"data": summary.record()}, True, Output(tmp_path, MADE_BY), WriteErrors())
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["ap"] == metrics["steps"][0]["ap"] == NO_AP and metrics["ground_truths"] == 0
    assert metrics["heading_error"] == {"iou": 0.5, "mean_deg": None, "matched": 0}
    text = text_of(score_table({"all agents": empty}, "a run"))
    assert text.count("n/a") == 5 and "n/a: no objects in range" in " ".join(text.split()) and "0.000" not in text


def test_recorded_evaluations_are_shown_without_a_number(empty: RunScore, tmp_path: Path) -> None:
    record_evaluation(tmp_path, "empty, test", {"all agents": empty})
    assert json.loads((tmp_path / "evaluations.json").read_text())["empty, test"]["all agents"]["ap"] == NO_AP
    assert text_of(evaluations_table(tmp_path)).count("n/a") == 3


def reported(*ticks: TickResult) -> Report:
    log, data = RunLog.of(RunOptions(), RANGE_M), ReportData()
    for tick in ticks:
        log.add(tick)
        data.add(tick)
    return Report("a run", MADE_BY, log, data, {})


def test_the_report_shows_no_number_and_its_curves_begin_with_the_first_object() -> None:
    page = page_of(reported(without_objects(made_tick(0)), without_objects(made_tick(1))))
    assert [number.value for number in page.headline[:4]] == ["n/a"] * 4
    assert [(row.ap, row.ready, row.recall) for row in page.ap] == [("n/a", "n/a", "n/a")] * 3
    assert render_page(page).count("n/a") == 16
    curves = reported(without_objects(made_tick(0, found=0)), made_tick(1), made_tick(2)).data.ap_over_time(None)
    assert np.isnan(curves[:, 0]).all() and curves[:, 1:] == pytest.approx(np.ones((3, 2)))


def test_a_sweep_has_null_and_no_line(tmp_path: Path) -> None:
    total = RunTotals()
    total.add(without_objects(made_tick(0)))
    rows = [make_row(Condition(series, 1.0, series, RunOptions()), total, total) for series in (ALONE, "hold")]
    assert [row.ap for row in rows] == [row.ready_ap for row in rows] == [NO_AP, NO_AP]
    assert text_of(sweep_table(rows, "delay")).count("n/a") == 12
    draw_sweep(rows, "delay", "a sweep", tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").stat().st_size > 1000


def test_a_flipped_box_is_seen_beside_ap() -> None:
    tick = made_tick(0)
    corners = tick.detections.corners.clone()
    corners[0] = corners[0][[2, 3, 0, 1, 6, 7, 4, 5]]  # the first box points backwards
    score = score_of(replace(tick, detections=replace(tick.detections, corners=corners)))
    assert score.metrics()["ap"] == {"0.3": 1.0, "0.5": 1.0, "0.7": 1.0}
    assert score.metrics()["heading_error"] == {"iou": 0.5, "mean_deg": pytest.approx(60.0, abs=1e-3), "matched": 3}
    assert "60.0 deg" in text_of(score_table({"all agents": score}, "a run"))
    errors = score.metrics()["errors"]
    assert errors["turned"] == 1 and errors["right"] == len(tick.detections) - 1 and errors["missed"] == errors["false"] == 0


def test_missed_vehicles_with_few_points_count_on_their_own() -> None:
    tick = made_tick(0, found=0)
    ids = tick.ground_truth.ids.numpy()
    own, others = np.arange(len(ids)) * 0 + 4, np.where(np.arange(len(ids)) == 0, 30, 2)
    score = RunScore(RANGE_M)
    score.add(tick, SceneVisibility(ids, own, others))
    errors = score.metrics()["errors"]
    assert errors["missed"] == len(ids) and errors["missed_unseen"] == len(ids) - 1
