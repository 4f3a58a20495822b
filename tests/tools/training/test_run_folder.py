"""The folder of a training: what a restart deletes, which settings may change, and that one process at a time writes."""

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from heal.atomic_write import write_text
from heal.config import ConfigError, load_config
from heal.errors import UserError
from heal.tools.training.loop import StepReport
from heal.tools.training.run_folder import locked, run_folders
from heal.tools.training.step_log import StepLog, last_row
from heal.training.config import TrainingConfig
from tests.heal.networks import AGENT
from tests.tools.training.small_training import SETTINGS

FORK = multiprocessing.get_context("fork")


def _open(run: Path, settings: TrainingConfig, restart: bool = False) -> str:
    """Open the folder of a training and leave it; return what was printed."""
    output = StringIO()
    with run_folders([(run, settings)], restart, Console(file=output, width=1000)):
        assert load_config(TrainingConfig, run / "config.yaml") == settings
    return output.getvalue()


def _fill(run: Path) -> set[str]:
    """Write the files of a training and files of others; return the names of the latter."""
    others = {"notes.txt", "town/train/scene.pcd", "alliance/base/base.yaml", "alliance/m2/agent.yaml", "tensorboard/mine.txt"}
    own = {
        "checkpoint.pt",
        "best.pt",
        "metrics.jsonl",
        "predictions.png",
        "tensorboard/events.out.tfevents.1",
        ".checkpoint.9.unfinished.pt",
    }
    for name in others | own:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(name)
    return others


def _files(run: Path) -> set[str]:
    return {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()} - {".lock"}


def test_a_run_folder_belongs_to_networks_and_data(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert _open(run, SETTINGS) == _open(run, SETTINGS) == ""
    training = SETTINGS.training
    for other in (
        replace(SETTINGS, agents={"m9": AGENT}),
        replace(SETTINGS, base=replace(SETTINGS.base, shrink_channels=(32,))),
        replace(SETTINGS, training=replace(training, batch_scenes=4)),
        replace(SETTINGS, training=replace(training, seed=1)),
        replace(SETTINGS, training=replace(training, learning_rate=1.0, max_agents=3)),
    ):
        with pytest.raises(ConfigError, match=r"other settings: \S+ .* -> .*--restart"):
            _open(run, other)
        assert load_config(TrainingConfig, run / "config.yaml") == SETTINGS
    _open(run, replace(SETTINGS, agents={"m9": AGENT}), restart=True)


def test_rate_clipping_epochs_and_the_like_may_change_and_the_run_says_so(tmp_path: Path) -> None:
    _open(tmp_path, SETTINGS)
    values: dict[str, Any] = {"epochs": 9, "learning_rate": 1e-4, "clip_gradient_norm": 10.0, "workers": 1, "checkpoint_s": 5.0}
    said = _open(tmp_path, replace(SETTINGS, training=replace(SETTINGS.training, **values)))
    assert "training.learning_rate 0.01 -> 0.0001" in said and "training.epochs 3 -> 9" in said and said.count("->") == 5


def test_a_restart_deletes_the_files_of_the_training_and_no_others(tmp_path: Path) -> None:
    _open(tmp_path, SETTINGS)
    others = _fill(tmp_path)
    _open(tmp_path, SETTINGS)
    assert len(_files(tmp_path)) == len(others) + 6
    _open(tmp_path, SETTINGS, restart=True)
    assert _files(tmp_path) == others | {"config.yaml"}


@pytest.mark.parametrize("settings", [None, "", "base: {}\n", "seed: 7\nticks: 3\n", "\udcff"])
def test_a_restart_deletes_nothing_in_a_folder_without_settings_of_a_training(tmp_path: Path, settings: str | None) -> None:
    _fill(tmp_path)
    if settings is not None:
        (tmp_path / "config.yaml").write_text(settings, errors="surrogateescape")
    before = _files(tmp_path)
    with pytest.raises(ConfigError, match=r"no config\.yaml of a training.*another --out"):
        _open(tmp_path, SETTINGS, restart=True)
    assert _files(tmp_path) == before
    _open(tmp_path / "new", SETTINGS, restart=True)


def test_a_checkpoint_of_an_unknown_training_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_text("weights")
    with pytest.raises(ConfigError, match=r"no config\.yaml"):
        _open(tmp_path, SETTINGS)


def test_everything_is_checked_before_any_of_several_runs_is_deleted(tmp_path: Path) -> None:
    _open(tmp_path / "one", SETTINGS)
    _fill(tmp_path / "one")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "notes.txt").write_text("of others")
    before = _files(tmp_path)
    with (
        pytest.raises(ConfigError, match=r"two holds notes\.txt"),
        run_folders([(tmp_path / name, SETTINGS) for name in ("one", "two")], True, Console()),
    ):
        pass
    assert _files(tmp_path) == before


def test_a_second_training_in_the_folder_is_refused(tmp_path: Path) -> None:
    _open(tmp_path, SETTINGS)
    others = _fill(tmp_path)
    with locked(tmp_path):
        for restart in (False, True):
            with pytest.raises(UserError, match=r"process \d+ trains in this folder.*another --out"):
                _open(tmp_path, SETTINGS, restart)
    assert others < _files(tmp_path) and (tmp_path / "checkpoint.pt").exists()
    _open(tmp_path, SETTINGS)


def test_a_killed_training_leaves_no_lock_and_its_loading_processes_hold_none(tmp_path: Path) -> None:
    holder = FORK.Process(target=_hold, args=(tmp_path,))
    holder.start()
    _wait(lambda: (tmp_path / "loader").exists())
    loader = psutil.Process(int((tmp_path / "loader").read_text()))
    with pytest.raises(UserError, match=f"process {holder.pid} "), locked(tmp_path):
        pass
    holder.kill()
    holder.join()
    _wait(lambda: _is_free(tmp_path))
    assert loader.is_running()
    loader.kill()


def test_a_torn_last_line_of_the_log_does_not_stop_a_resume(tmp_path: Path) -> None:
    rows = [json.dumps({"step": step, "epoch": 0, "learning_rate": 0.1, "total": 1.0}) for step in range(3)]
    for torn in ('{"step": 3, "ep', "\0\0\0\0", '{"step": 3, "epoch": 0}\n{"st', '"step"\n', "\udcff"):
        (tmp_path / "metrics.jsonl").write_text("\n".join(rows) + "\n" + torn, errors="surrogateescape")
        last_row(tmp_path)
        log = StepLog(tmp_path, 3)
        log.write(StepReport(3, 4, 0, 0.1, 0.0, {"total": 2.0}))
        log.close()
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
        assert lines[:3] == rows and [json.loads(line)["step"] for line in lines] == [0, 1, 2, 3]
        assert (last_row(tmp_path) or {})["total"] == 2.0


def test_the_settings_are_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _open(tmp_path, SETTINGS)

    def fail(_: Any, path: Path) -> None:
        path.write_text("base: {")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("heal.tools.training.run_folder.save_config", fail)
    with pytest.raises(OSError, match="No space"):
        _open(tmp_path, replace(SETTINGS, training=replace(SETTINGS.training, epochs=9)))
    assert load_config(TrainingConfig, tmp_path / "config.yaml") == SETTINGS


def _hold(run: Path) -> None:
    """Hold the lock of a folder until killed, and start a process that lives on, as one that loads data does for a while."""
    with locked(run):
        loader = os.fork()
        if loader:
            write_text(run / "loader", str(loader))
        time.sleep(60)
        os._exit(0)


def _is_free(run: Path) -> bool:
    """Return whether nobody holds the lock of a folder."""
    try:
        with locked(run):
            return True
    except UserError:
        return False


def _wait(done: Callable[[], bool]) -> None:
    """Wait until something is so."""
    until = time.monotonic() + 10
    while not done():
        assert time.monotonic() < until
        time.sleep(0.01)
