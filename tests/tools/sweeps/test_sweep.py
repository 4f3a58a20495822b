"""`heal sweep`: every row equals the result of a separate run, for any number of processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heal.agent_types import same_type
from heal.agents.local_runtime import LocalRuntime
from heal.agents.message_records import MessageCounts
from heal.agents.network.spec import LinkSpec
from heal.agents.options import RunOptions
from heal.agents.truth import TruthRule
from heal.alliance import load_alliance
from heal.datasets.town import TownSource
from heal.detection.metrics import ApAccumulator
from heal.tools.shared.ready_score import ReadyScore
from heal.tools.sweeps.conditions import KINDS, Common, sweep_conditions
from tests.agents.tiny_run import save_tiny_alliance
from tests.tools.command import run_command

COMMON = Common(RunOptions(), 1000, ("m1", "m2", "m3"), {"m1": 64, "m3": 32})


@pytest.fixture(scope="module")
def alliance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_alliance(tmp_path_factory.mktemp("alliance"))


def run(alliance: Path, out: Path, kind: str, *options: str) -> list[dict[str, Any]]:
    """Run a sweep, check that its figure was written, and return its rows."""
    run_command("sweep", kind, "--alliance", alliance, "--out", out, "--preset", "test", "--seed", "5", *options)
    assert (out / "sweep.png").stat().st_size > 1000
    rows: list[dict[str, Any]] = json.loads((out / "sweep.json").read_text())["rows"]
    return rows


def test_a_row_equals_a_separate_run(alliance: Path, tmp_path: Path) -> None:
    rows = run(alliance, tmp_path, "delay", "--towns", "2", "--ticks", "4", "--processes", "2")
    assert [row["name"] for row in rows][:3] == ["ego alone", "drop, 0 ms", "drop, 100 ms"]
    point = next(row for row in rows if row["name"] == "hold, 150 ms")
    ap, ready, counts, held = ApAccumulator(), ApAccumulator(), MessageCounts(), 0
    for seed in (5, 6):
        options = RunOptions(late="hold")
        source, network = TownSource("test", seed, 4), LinkSpec.parse("delay:150").network(seed)
        opened = load_alliance(alliance)
        score = ReadyScore(TruthRule.of(options, opened.grid.range_m))
        with LocalRuntime(opened, source, same_type("m1"), network, options) as runtime:
            for result in runtime.run(range(4)):
                score.add(result)
                ap.add(result.detections, result.ground_truth)
                counts, held = counts + result.counts, held + len(result.held)
        ready.merge(score.ap)
    assert point["ap"] == {f"{threshold:g}": round(value, 4) for threshold, value in ap.results().ap.items()}
    assert point["ready_ap"] == {f"{threshold:g}": round(value, 4) for threshold, value in ready.results().ap.items()}
    # A message that takes 150 ms is fused one tick later, and its result is ready 100 ms after that tick.
    assert (point["age_ms"], point["ready_age_ms"], point["ready_frames"]) == (100, 200, 6)
    assert (rows[0]["age_ms"], rows[0]["ready_ap"]) == (None, rows[0]["ap"])
    assert point["frames"] == 8 and point["used"] == 0 and point["held"] == round(held / counts.sent, 4) > 0.5
    assert point["bytes_per_message"] == round(counts.bytes / counts.sent)


def test_the_codecs_shorten_the_messages_and_budgets_are_kept(alliance: Path, tmp_path: Path) -> None:
    rows = run(alliance, tmp_path, "codec", "--towns", "1", "--ticks", "1", "--processes", "1")
    size = {row["name"]: row["bytes_per_message"] for row in rows}
    assert size["feature: float32"] > 1.9 * size["feature: float16"] > 3.5 * size["feature: int8"] > size["feature: int8,zstd"]
    float32_bytes = 4 * 8 * 32 * 32
    for split in ("feature", "pyramid"):
        assert size[f"{split}: int8,zstd,budget:{float32_bytes // 25}"] <= float32_bytes // 25


def test_every_kind_has_conditions_and_unknown_ones_are_named() -> None:
    for kind in KINDS:
        runs = sweep_conditions(kind, COMMON)
        assert runs[0].options.agents == 1 and len(runs) >= 4
        assert len({run.name for run in runs}) == len(runs)
    with pytest.raises(ValueError, match="codec, delay, loss, noise, regions, attacks, range, agents, lines"):
        sweep_conditions("speed", COMMON)


def test_every_pose_noise_is_run_with_and_without_corrections() -> None:
    runs = sweep_conditions("noise", COMMON)[1:]
    of_choice = {choice: [run for run in runs if run.options.correct_poses == choice] for choice in ("peaks", "boxes", "off")}
    raw, noises = of_choice["off"], {tuple(run.noise for run in found) for found in of_choice.values()}
    assert len(noises) == 1 and len(raw) == 12
    assert raw[5].noise == "position:1.0,rotation:1.0,kind:gaussian"
    assert {run.series for run in raw} == {"gaussian, not corrected", "laplace, not corrected"}


def test_liars_are_compared_with_the_ego_alone_and_the_guard_keeps_its_boxes(alliance: Path, tmp_path: Path) -> None:
    rows = {row["name"]: row for row in run(alliance, tmp_path, "attacks", "--towns", "2", "--ticks", "1", "--processes", "2")}
    alone, honest, jumping = (rows[name] for name in ("ego alone", "honest, undefended", "jumping pose, one, undefended"))
    assert alone["minus_alone"]["0.5"] == {"difference": 0.0, "low": 0.0, "high": 0.0}
    assert honest["minus_alone"]["0.5"]["low"] is not None
    confident = {row["guard"]["confident"] for row in rows.values()}
    assert len(confident) == 1 and confident.pop() > 0
    assert jumping["guard"]["lost"] > honest["guard"]["lost"] == 0
    for row in rows.values():
        assert row["name"].endswith(", defended") or row["guard"]["put_back"] + len(row["guard"]["blamed"]) == 0
    guarded = rows["jumping pose, one, defended"]["guard"]
    assert guarded["put_back"] or guarded["blamed"]
