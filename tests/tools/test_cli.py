"""`heal` prints mistakes of the user in one line; every other error keeps its traceback."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from heal.agents.deployment import Deployment, PlannedFault
from heal.agents.network.spec import LinkSpec
from heal.agents.options import RunOptions
from heal.config import load_yaml
from heal.datasets.noise import SensorNoise
from heal.datasets.town import TownSource
from heal.errors import UserError
from heal.grid import BevGrid
from heal.message.codec import Codec
from heal.tools import cli
from heal.tools.shared.lines import parse_lines
from heal.tools.shared.scoring import EVALUATIONS_NAME, read_evaluations
from heal.tools.sweeps.conditions import Common, sweep_conditions
from heal.tools.terminal.verbosity import set_verbosity
from tests.tools.command import run_command

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/metrics.json")


def run_main(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run `main` with a command that raises `error`."""

    def app() -> None:
        raise error

    monkeypatch.setattr(cli, "app", app)
    cli.main()


@pytest.mark.parametrize(
    "error",
    [ValueError("cannot reshape array"), ConnectionRefusedError(errno.ECONNREFUSED, "refused"), OSError("no code"), KeyError("a")],
)
def test_errors_of_libraries_keep_their_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(type(error)) as caught:
        run_main(error, monkeypatch)
    assert caught.value is error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("link: expected delay:MS, got 'dely:3'"), "error: link: expected delay:MS, got 'dely:3'\n"),
        (FULL, "error: runs/metrics.json: no space is left on the disk\n"),
        (NotADirectoryError(errno.ENOTDIR, "-", "a/b"), "error: a/b: a part of the path is a file, expected a folder\n"),
        (PermissionError(errno.EACCES, "-", "data/101"), "error: data/101: permission denied\n"),
        (OSError(errno.EROFS, "-", "/proc/no"), "error: /proc/no: the file system can only be read\n"),
        (UserError("long " * 80), f"error: {'long ' * 80}\n"),
    ],
)
def test_mistakes_of_the_user_are_one_line(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HEAL_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as exit_:
        run_main(error, monkeypatch)
    assert (exit_.value.code, capsys.readouterr().err) == (2, line)


@pytest.mark.parametrize("option", [("--plugin", "my.py"), ("--plugin=my.py",)])
def test_a_plugin_after_the_command_is_told_its_place(
    option: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HEAL_TRACEBACK", raising=False)
    monkeypatch.setattr(sys, "argv", ["heal", "train", "agent", *option])
    with pytest.raises(SystemExit):
        cli.main()
    assert "before the name of the command: heal --plugin FILE COMMAND ..." in capsys.readouterr().err


@pytest.mark.parametrize("error", [UserError("a mistake"), FULL])
def test_debug_gives_every_error_its_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEAL_TRACEBACK", raising=False)
    set_verbosity(debug=True)
    try:
        with pytest.raises(type(error)) as caught:
            run_main(error, monkeypatch)
    finally:
        set_verbosity()
    assert caught.value is error


@pytest.mark.parametrize("error", [UserError("a mistake"), FULL])
def test_the_variable_gives_every_error_its_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEAL_TRACEBACK", "1")
    with pytest.raises(type(error)) as caught:
        run_main(error, monkeypatch)
    assert caught.value is error


@pytest.mark.parametrize(
    "read",
    [
        lambda: LinkSpec.parse("delay:fast"),
        lambda: LinkSpec.parse("loss:2"),
        lambda: LinkSpec.parse("trace:nowhere.csv").network(seed=1),
        lambda: SensorNoise.parse("position:far"),
        lambda: Codec.parse("int7"),
        lambda: Codec.parse("budget:0"),
        lambda: PlannedFault.parse("crash:node"),
        lambda: RunOptions(agents=0),
        lambda: RunOptions(precision="float8"),  # type: ignore[arg-type]
        lambda: RunOptions(lidar_lines={"m1": 48}),
        lambda: parse_lines("m1:32"),
        lambda: parse_lines("m1=32,m1=16"),
        lambda: Deployment(fusion_nodes=0),
        lambda: TownSource("demmo", seed=1, ticks=1),
        lambda: TownSource("demo", seed=1, ticks=1, split="val"),
        lambda: BevGrid(range_m=(-1, -1, -3, 2, 1, 1), cell_m=0.4),
        lambda: sweep_conditions("speed", Common(RunOptions(), 1000)),
    ],
)
def test_wrong_options_are_mistakes_of_the_user(read: Callable[[], object]) -> None:
    with pytest.raises(UserError):
        read()


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_the_list_of_commands_says_what_their_help_says_which_has_examples(name: str) -> None:
    """The list does not import the commands."""
    text = " ".join(run_command(name, "--help").split())
    assert cli.COMMANDS[name].summary in text and f"heal {name} " in text.partition(cli.COMMANDS[name].summary)[2]
    assert cli.COMMANDS[name].summary in " ".join(run_command("--help").split())


def test_the_list_of_commands_loads_none_of_them() -> None:
    """Networks and Ray take seconds to load."""
    code = "import sys; from heal.tools.cli import app; app(['--help'], standalone_mode=False); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "simulate" in done.stdout and "'heal.tools.cli'" in done.stdout
    for heavy in ("torch", "numpy", "ray", "matplotlib", "heal.tools.simulate"):
        assert f"'{heavy}'" not in done.stdout


def test_an_unknown_command_is_named() -> None:
    result = CliRunner().invoke(cli.app, ["simulat"])
    assert result.exit_code == 2 and "No such command 'simulat'" in result.output


def test_damaged_text_files_are_mistakes_of_the_user(tmp_path: Path) -> None:
    (tmp_path / EVALUATIONS_NAME).write_text('{"a": ')
    with pytest.raises(UserError, match=EVALUATIONS_NAME):
        read_evaluations(tmp_path)
    (tmp_path / EVALUATIONS_NAME).write_text("[1]")
    with pytest.raises(UserError, match="got list"):
        read_evaluations(tmp_path)
    (tmp_path / "settings.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(UserError, match=r"settings\.yaml"):
        load_yaml(tmp_path / "settings.yaml")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_is_an_interrupt(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    def app() -> None:
        signal.raise_signal(number)

    before = signal.signal(number, lambda *_: None)
    monkeypatch.setattr(cli, "app", app)
    try:
        with pytest.raises(KeyboardInterrupt):
            cli.main()
        signal.signal(number, signal.SIG_IGN)
        cli.main()
    finally:
        signal.signal(number, before)
