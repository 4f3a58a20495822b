"""Where nothing can be written: old files stay whole, the results are printed, and one error names the file."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from heal.agents.options import RunOptions
from heal.datasets.assignment import Assignment, write_assignment
from heal.detection.metrics import ApAccumulator
from heal.tools.cli import app
from heal.tools.pictures.draw import draw_curves, save_animation, save_image
from heal.tools.report.history import ReportData
from heal.tools.report.page import Report, write_report
from heal.tools.shared.output import Output
from heal.tools.shared.run_log import RunLog
from heal.tools.shared.scoring import RunScore, record_evaluation
from heal.tools.sweeps.figure import draw_sweep
from heal.tools.sweeps.rows import SweepRow
from tests.agents.made_ticks import RANGE_M, made_tick
from tests.agents.tiny_run import save_tiny_alliance
from tests.tools.command import MADE_BY, run_command

IMAGE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
AP: dict[str, float | None] = {"0.3": 0.5, "0.5": 0.5, "0.7": 0.5}
ROWS = [SweepRow("drop", 1.0, "drop, 1 ms", AP, AP, 0.0, 100.0, 1000, 1.0, 0.0, 4, 3)]


@contextmanager
def full_disk(free_bytes: int = 40) -> Iterator[None]:
    """Let this process write files of a few bytes only; then every write fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _write_report(path: Path) -> None:
    log, data, tick = RunLog.of(RunOptions(), RANGE_M), ReportData(), made_tick()
    for listener in (log, data):
        listener.add(tick)
    write_report(path, Report("a run", MADE_BY, log, data, {}))


def _record(path: Path) -> None:
    score = RunScore(RANGE_M)
    score.add(made_tick())
    record_evaluation(path.parent, "town, test", {"all agents": score})


WRITERS: dict[str, Callable[[Path], None]] = {
    "metrics.json": lambda path: Output(path.parent, MADE_BY).write_results({"ap": [0.123456] * 20}),
    "evaluations.json": _record,
    "types.json": lambda path: write_assignment(path, Assignment({"a": {str(i): "m1" for i in range(20)}})),
    "curves.png": lambda path: draw_curves(ApAccumulator().results(), path),
    "picture.png": lambda path: save_image(IMAGE, path),
    "run.gif": lambda path: save_animation([IMAGE, IMAGE[::-1]], path),
    "sweep.png": lambda path: draw_sweep(ROWS, "delay", "a sweep", path),
    "report.html": _write_report,
}


@pytest.mark.parametrize("name", WRITERS)
def test_an_old_file_stays_whole_and_the_error_names_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    WRITERS[name](path)  # loads what the writer needs
    old = b"{}" if path.suffix == ".json" else b"old"
    path.write_bytes(old)
    with full_disk(), pytest.raises(OSError) as caught:
        WRITERS[name](path)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert [entry.name for entry in tmp_path.iterdir()] == [name] and path.read_bytes() == old


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with scenes in `town` and a tiny alliance in `alliance`."""
    path = tmp_path_factory.mktemp("full_disk")
    save_tiny_alliance(path / "alliance")
    run_command("generate", path / "town", "--preset", "test", "--split", "test", "--frames", 1, "--sensors", "lidar")
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def commands(folder: Path, out: Path) -> dict[str, tuple[object, ...]]:
    """Return commands that write their results to `out`."""
    alliance, town = ("--alliance", folder / "alliance", "--out", out), ("--preset", "test", "--ticks", 1)
    return {
        "evaluate": ("evaluate", *alliance, "--data", folder / "town", "--pictures", 1),
        "simulate": ("simulate", *alliance, *town, "--runtime", "local"),
        "demo": ("demo", *alliance, "--types", "m1,m1", "--ticks", 1, "--runtime", "local"),
        "sweep": ("sweep", "delay", *alliance, *town),
        "generate": ("generate", out, "--preset", "test", "--frames", 1, "--sensors", "lidar"),
        "assign": ("assign", folder / "town", "--out", out / "types.json"),
        "bench": ("bench", "ap", "--json", out / "bench.json"),
    }


@pytest.mark.parametrize("name", ["evaluate", "simulate", "demo", "sweep", "generate", "assign", "bench"])
def test_a_file_in_place_of_the_folder_is_named_before_the_work(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    result = run(*commands(folder, tmp_path / "file")[name])
    assert isinstance(result.exception, OSError) and str(result.exception.filename).startswith(str(tmp_path / "file"))
    assert "AP@" not in result.output and "100%" not in result.output


@pytest.mark.parametrize(
    ("name", "printed", "unwritten"),
    [("evaluate", "AP@0.5", "scene_000000.png"), ("simulate", "AP@0.5", "last_tick.png")],
)
def test_results_are_printed_though_no_file_can_be_written(
    name: str, printed: str, unwritten: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    command = commands(folder, tmp_path)[name]
    original = os.fsync
    monkeypatch.setattr("os.fsync", lambda descriptor: fail(descriptor) if _is_result(descriptor) else original(descriptor))
    result = run(*command)
    assert printed in result.output
    assert isinstance(result.exception, OSError) and result.exception.filename == str(tmp_path / unwritten)
    assert {path.name for path in tmp_path.iterdir()} <= {"run.yaml", "ticks.jsonl"}


def _is_result(descriptor: int) -> bool:
    """Whether an open file is a result that is written at the end: not run.yaml, which is written before the run."""
    return Path(f"/proc/self/fd/{descriptor}").readlink().suffix != ".yaml"
