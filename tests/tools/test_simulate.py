"""`heal simulate`, from the command line to the written files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from rich.console import Console

from heal.agents.message_records import MessageRecord
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.datasets.town import TownSource
from heal.detection.metrics import AP_RULE
from heal.detection.visibility import SceneVisibility, scene_visibility
from heal.tools.shared.paths import CONFIGS
from heal.tools.shared.run_log import RunLog
from heal.tools.shared.scoring import RunScore, score_table, spread_evenly
from heal.tools.simulation.summary import require_all_agents
from heal.types import load_scene
from tests.agents.made_ticks import BYTES, RANGE_M, made_tick
from tests.agents.tiny_run import save_tiny_alliance
from tests.tools.command import run_command


@pytest.fixture(scope="module")
def alliance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_alliance(tmp_path_factory.mktemp("alliance"))


def test_a_simulation_knows_the_vehicles_that_are_hidden_from_the_ego(tmp_path: Path) -> None:
    metrics, _ = run(CONFIGS / "demo" / "alliance", tmp_path, "--ticks", "1", "--seed", "3", "--types", "m1,m2,m3")
    scene = load_scene(TownSource("test", 3, 1), 0)
    hidden = metrics["hidden_from_ego"]
    assert hidden["vehicles"] == int(scene_visibility(scene, metrics["range_m"]).hidden.sum()) > 0
    assert hidden["recall"] > hidden["recall_alone"]


def run(alliance: Path, out: Path, *options: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run a simulation in this process; return its metrics and the lines of ticks.jsonl."""
    run_command("simulate", "--alliance", alliance, "--out", out, "--preset", "test", "--runtime", "local", *options)
    lines = (out / "ticks.jsonl").read_text().splitlines()
    return json.loads((out / "metrics.json").read_text()), [json.loads(line) for line in lines]


def test_a_town_with_bad_links_counts_every_message(alliance: Path, tmp_path: Path) -> None:
    options = ("--ticks", "4", "--seed", "2", "--link", "delay:90,jitter:40,loss:0.3", "--late", "drop", "--pictures")
    metrics, lines = run(alliance, tmp_path / "a", *options)
    assert set(metrics["ap"]) == {"0.3", "0.5", "0.7"} and metrics["rule"] == AP_RULE
    assert (metrics["frames"], metrics["agents"], len(metrics["range_m"])) == (4, 3, 6)
    assert metrics["sent"] == 8 == metrics["arrived"] + metrics["late"] + metrics["lost"]
    assert metrics["late"] and metrics["lost"] and metrics["bytes"] == 8 * metrics["bytes_per_message"]
    assert set(metrics["latency_ms"]) == {"sense", "encode", "pack", "link", "unpack", "fuse", "decode"}
    assert all(set(stage) == {"p50", "p95", "p99"} for stage in metrics["latency_ms"].values())
    for key in ("sent", "arrived", "late", "lost", "bytes"):
        assert sum(line[key] for line in lines) == metrics[key]
    assert [line["tick"] for line in lines] == [0, 1, 2, 3]
    assert all(len(line["boxes"]) == len(line["scores"]) and {len(box) for box in line["boxes"]} <= {7} for line in lines)
    assert len(list((tmp_path / "a" / "pictures").glob("*.png"))) == 4
    assert (tmp_path / "a" / "last_tick.png").exists() and (tmp_path / "a" / "run.gif").stat().st_size < 5_000_000

    run(alliance, tmp_path / "b", *options[:-1])
    assert (tmp_path / "a" / "ticks.jsonl").read_bytes() == (tmp_path / "b" / "ticks.jsonl").read_bytes()


def test_the_settings_are_written_beside_the_results_and_can_be_run_again(alliance: Path, tmp_path: Path) -> None:
    options = ("--ticks", "6", "--link", "dsrc,delay:120", "--noise", "position:0.2,rotation:0.2,clock:5", "--codec", "int8,zstd")
    sets = ("--set", "run.split=pyramid", "--set", "run.adapt=true", "--set", "run.max_age_ms=400")
    metrics, lines = run(alliance, tmp_path / "a", *options, *sets)
    assert (metrics["split"], metrics["codec"], metrics["link"]) == ("pyramid", "int8,zstd", "dsrc,delay:120")
    assert metrics["late"] == 12 and metrics["held"] == sum(len(line["held"]) for line in lines) > 0
    page = (tmp_path / "a" / "report.html").read_text()
    assert "dsrc,delay:120" in page and "max_age_ms" in page
    again, _ = run(alliance, tmp_path / "b", "--ticks", "6", "--config", str(tmp_path / "a" / "run.yaml"))
    assert (tmp_path / "a" / "ticks.jsonl").read_bytes() == (tmp_path / "b" / "ticks.jsonl").read_bytes()
    assert again["codec"] == metrics["codec"]


def test_a_guarded_run_counts_what_it_put_back_and_a_blind_ego_is_not_fused(alliance: Path, tmp_path: Path) -> None:
    options = ("--ticks", "3")
    _, plain = run(alliance, tmp_path / "plain", *options)
    _, guarded = run(alliance, tmp_path / "guarded", *options, "--set", "run.guard=on")
    assert all(line["alone"] >= line["guard"]["confident"] > 0 for line in guarded)
    assert all(line["guard"]["put_back"] == 0 and line["guard"]["blamed"] == [] for line in plain)
    assert any(line["guard"]["blamed"] for line in guarded) or plain == guarded
    assert all(line["guard"]["put_back"] or line["guard"]["blamed"] for line in guarded if line["guard"]["lost"])
    assert [line["alone"] for line in guarded] == [line["alone"] for line in plain]
    metrics, blind = run(alliance, tmp_path / "blind", *options, "--set", "run.blind_ego=true")
    assert [(line["alone"], line["guard"]) for line in blind] == [(None, None)] * 3
    assert metrics["reasons"]["rejected: blind ego"] == 3 and metrics["used"] > 0


def test_an_agent_joins_by_an_option_which_is_kept_with_the_settings(alliance: Path, tmp_path: Path) -> None:
    metrics, lines = run(alliance, tmp_path / "a", "--ticks", "3", "--agents", "2", "--join", "m1@2")
    assert [len(line["messages"]) for line in lines] == [2, 2, 3] and metrics["agents"] == 3
    run(alliance, tmp_path / "b", "--ticks", "3", "--config", str(tmp_path / "a" / "run.yaml"))
    assert (tmp_path / "a" / "ticks.jsonl").read_bytes() == (tmp_path / "b" / "ticks.jsonl").read_bytes()


def test_the_ego_alone_sends_nothing(alliance: Path, tmp_path: Path) -> None:
    metrics, lines = run(alliance, tmp_path, "--ticks", "1", "--agents", "1", "--realtime")
    assert (metrics["sent"], metrics["bytes"], metrics["agents"]) == (0, 0, 1)
    assert [message["own"] for message in lines[0]["messages"]] == [True]
    assert metrics["realtime"]["kept_up"] and "link" not in metrics["latency_ms"]


def test_wrong_option_values_are_refused(alliance: Path, tmp_path: Path) -> None:
    wrong = {
        ("--link", "speed:3"): "link",
        ("--runtime", "cloud"): "local, ray",
        ("--source", str(tmp_path)): "layout",
        ("--codec", "int9"): "codec",
        ("--noise", "sound:3"): "noise",
        ("--late", "maybe"): "drop.*hold.*weigh",
        ("--view", "mirror"): "native, web",
        ("--fault", "stop:1@2"): "crash:AGENT@TICK",
        ("--set", "run.splt=pyramid"): "did you mean 'split'",
        ("--join", "m1"): "TYPE@TICK",
        ("--join", "m1@1:nobody"): "no such agent; there are 1001, -1",
    }
    for options, hint in wrong.items():
        with pytest.raises(ValueError, match=hint):
            run(alliance, tmp_path, *options)


def test_reasons_are_counted_by_kind() -> None:
    log = RunLog.of(RunOptions(), (0.0,))
    rejected = [MessageRecord(0, "a", "m1", False, 1, 0, 0, "rejected", "stale", f"its time is {age} ms off") for age in (3, 4)]
    died = MessageRecord(0, "b", "m1", True, 0, 0, None, "not sent", "agent died")
    for record in (*rejected, died):
        log.add_message(record)
    assert log.reasons == {"rejected: stale": 2, "not sent: agent died": 1} and log.ego_missing == 1


def test_a_run_in_which_an_agent_was_given_up_does_not_exit_with_success(capsys: pytest.CaptureFixture[str]) -> None:
    log = RunLog.of(RunOptions(), (0.0,))
    require_all_agents(Console(), log)
    log.add_message(MessageRecord(0, "b", "m1", False, 0, 0, None, "not sent", "agent restarting"))
    require_all_agents(Console(), log)
    log.add_message(MessageRecord(1, "b", "m1", False, 0, 0, None, "not sent", "agent given up"))
    with pytest.raises(typer.Exit) as ended:
        require_all_agents(Console(), log)
    assert ended.value.exit_code == 1 and "1 of their messages are missing" in capsys.readouterr().out


def test_messages_that_were_never_sent_are_no_sent_ones_and_do_not_lower_the_mean_size() -> None:
    score = RunScore(RANGE_M)
    score.add(without_message_of_b(made_tick(b="not sent")))
    counts = score.counts
    assert (counts.sent, counts.not_sent, counts.lost, counts.bytes_per_message) == (1, 1, 0, BYTES["-1"])
    score.add(without_message_of_b(made_tick(b="late")))
    assert (score.counts.sent, score.counts.late, score.counts.unfinished) == (3, 1, 1)
    score.add(made_tick())
    assert score.metrics()["bytes_per_message"] == (3 * BYTES["-1"] + BYTES["b"]) / 4


def test_the_summary_names_the_messages_that_were_not_sent() -> None:
    log = RunLog.of(RunOptions(), RANGE_M)
    log.add(made_tick())
    assert "not sent" not in str(log.table().caption)
    log.add(without_message_of_b(made_tick(b="not sent")))
    assert "messages: 3 sent, 3 arrived in time, 0 late, 0 lost; 1 not sent" in str(log.table().caption)
    assert (log.metrics()["sent"], log.metrics()["not_sent"]) == (3, 1)


def test_vehicles_hidden_from_the_ego_are_counted_together_and_by_the_ego_alone() -> None:
    tick = made_tick(found=2)
    ids = tick.ground_truth.ids.numpy()
    visibility = SceneVisibility(ids, ids * 0 + [0, 4, 5], ids * 0 + 30)
    log = RunLog.of(RunOptions(), RANGE_M)
    log.add(replace(tick, visibility=visibility, alone=tick.detections.select(torch.tensor([0]))))
    assert log.metrics()["hidden_from_ego"] == {"vehicles": 2, "recall": 1.0, "recall_alone": 0.5}
    columns = [list(column.cells) for column in score_table({"3 agents": log.score}, "a run").columns]
    assert ["1.00 of 2", "0.50 of 2"] in columns and ["3 agents", "ego alone"] in columns
    log.add(tick)
    assert (log.score.frames, log.score.hidden_frames, log.score.hidden.objects) == (2, 1, 2)


def without_message_of_b(tick: TickResult) -> TickResult:
    """The tick without a message of b, whose process has crashed or is not ready."""
    records = (replace(one, size_bytes=0, arrival_ns=None) if one.agent_id == "b" else one for one in tick.messages)
    return replace(tick, messages=tuple(records))


def test_frames_of_an_animation_are_spread_evenly() -> None:
    assert spread_evenly(range(100), 4) == [0, 25, 50, 75]
    assert spread_evenly(range(3), 24) == [0, 1, 2]
    assert torch.get_num_threads() == 1
