"""`--quiet`, `--verbose` and `--debug`: which messages are shown, and whether there are progress bars."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from io import StringIO

import pytest
from rich.console import Console

from heal.errors import UserError
from heal.tools.terminal.progress import progress_bar, track
from heal.tools.terminal.verbosity import set_verbosity

MESSAGES = [
    ("heal.agents.on_ray.cluster", logging.DEBUG, "found a core"),
    ("heal.agents.on_ray.cluster", logging.INFO, "starting Ray"),
    ("heal.alliance", logging.WARNING, "m9 is left out"),
    ("heal.alliance", logging.ERROR, "no base"),
    ("other", logging.DEBUG, "opened"),
    ("other", logging.WARNING, "is old"),
]


@pytest.fixture(autouse=True)
def verbosity() -> Iterator[None]:
    yield
    set_verbosity()


OURS = ["starting Ray", "warning: m9 is left out", "error: no base"]


@pytest.mark.parametrize(
    ("option", "lines"),
    [
        ("quiet", ["error: no base"]),
        ("", [*OURS, "warning: other: is old"]),
        ("verbose", ["found a core", *OURS, "warning: other: is old"]),
        ("debug", ["found a core", *OURS, "other: opened", "warning: other: is old"]),
    ],
)
def test_each_option_shows_its_messages_once(option: str, lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    set_verbosity(**({option: True} if option else {}))
    set_verbosity(**({option: True} if option else {}))
    for name, level, text in MESSAGES:
        logging.getLogger(name).log(level, text)
    assert capsys.readouterr().err.splitlines() == lines


def test_two_of_the_options_contradict_each_other() -> None:
    with pytest.raises(UserError, match="exclude each other"):
        set_verbosity(quiet=True, debug=True)


class Terminal(StringIO):
    """A terminal that keeps what it shows."""

    def isatty(self) -> bool:
        return True

    @property
    def shown(self) -> str:
        return self.getvalue()


def test_a_bar_is_there_before_the_first_item_and_not_with_quiet() -> None:
    set_verbosity()
    terminal = Terminal()
    with progress_bar("starting", 5, Console(file=terminal, force_terminal=True, width=100)) as bar:
        assert "starting" in terminal.shown and "0/5" in terminal.shown
        bar.describe("simulating")
        bar.advance()
    assert "simulating" in terminal.shown and "1/5" in terminal.shown
    set_verbosity(quiet=True)
    quiet = Terminal()
    items = list(track(iter([1, 2]), "evaluating", 2, Console(file=quiet, force_terminal=True)))
    assert items == [1, 2] and "evaluating" not in quiet.shown


def test_a_file_keeps_the_last_state_of_a_bar_and_not_all_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    set_verbosity()
    file = StringIO()
    list(track(range(3), "evaluating", 3, Console(file=file)))
    assert file.getvalue().count("evaluating") == 1
    monkeypatch.setenv("FORCE_COLOR", "1")  # as in a notebook's shell
    notebook = StringIO()
    list(track(range(3), "evaluating", 3, Console(file=notebook)))
    assert "evaluating" not in notebook.getvalue()
