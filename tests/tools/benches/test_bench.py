"""`heal bench` measures the real run and writes its rows to files; the memory of a run's processes does not grow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from heal.alliance import load_alliance
from heal.tools.bench import BENCHES, bench
from heal.tools.benches.measure import BenchRow
from heal.tools.benches.runtime import TickWork, fusion_times_ms
from heal.tools.benches.scale import bench_scale
from heal.tools.benches.setup import BenchSetup
from heal.tools.benches.sign import bench_sign
from heal.tools.shared.paths import CONFIGS

ALLIANCE = CONFIGS / "demo" / "alliance"


@pytest.mark.ray
def test_no_process_grows_and_every_tick_uses_all_messages() -> None:
    """Run the bench with 6 agents and 80 ticks; the bench's own numbers are 64 and 300."""
    rows = {row.name: row.value for row in bench_scale(ALLIANCE, agents=6, ticks=80, warm_ticks=30, crowds=(2,))}
    assert rows["scale/ticks"] == 80
    # This process, Ray's own processes, at least one process with agents, and the fusion node.
    assert rows["scale/processes"] >= 5
    assert rows["scale/growth"] < 0.05


def test_the_work_without_a_runtime_is_that_of_a_tick() -> None:
    work = TickWork.of(load_alliance(ALLIANCE), agents=2, ticks=1)
    assert len(work.hosts) == 2 and len({id(host.setup.source) for host in work.hosts}) == 2
    outcome = work.do(0)
    assert outcome.used == work.outlines[0].agent_ids and len(outcome.detections)


def test_the_fusion_node_is_timed() -> None:
    times = fusion_times_ms(load_alliance(ALLIANCE), agents=2)
    assert len(times) > 10 and min(times) > 0


def test_rows_are_written_and_unknown_benches_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer()
    app.command()(bench)
    monkeypatch.setitem(BENCHES, "made", lambda setup: [BenchRow("made/one", 2.0, note=str(setup.alliance == ALLIANCE))])
    out = tmp_path / "bench.json"
    assert CliRunner().invoke(app, ["made", "--json", str(out)], catch_exceptions=False).exit_code == 0
    [row] = [row for row in json.loads(out.read_text()) if not row["name"].startswith("machine/")]
    assert (row["name"], row["seconds"], row["value"], row["note"]) == ("made/one", 2.0, None, "True")
    with pytest.raises(ValueError, match="runtime, scale"):
        CliRunner().invoke(app, ["speed"], catch_exceptions=False)


def test_signing_and_verifying_are_timed_beside_the_step() -> None:
    rows = {row.name: row for row in bench_sign(BenchSetup(ALLIANCE, repeats=1))}
    assert list(rows) == [f"sign/{part}-{codec}" for codec in ("float32", "int8,zstd") for part in ("step", "sign", "verify")]
    assert "2097664 bytes and 144 of envelope" in rows["sign/sign-float32"].note
    assert all(row.seconds and row.seconds > 0 for row in rows.values())
