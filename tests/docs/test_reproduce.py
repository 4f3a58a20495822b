"""The commands of docs/reproduce.md need data sets and days: here their options are read, and their configurations opened."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from heal.tools.cli import COMMANDS
from heal.tools.shared.paths import config_path, type_path
from heal.tools.training.settings import resolve_settings
from tests.docs.test_pasted_commands import commands

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reproduce.md"


def _lines() -> list[str]:
    """Return the commands of the page one by one, those of a loop with its first and its last value."""
    found: list[str] = []
    for command in commands(PAGE.read_text(encoding="utf-8")):
        loop = re.match(r"for (\w+) in (.*?); do\n(.*)done$", command, re.DOTALL)
        values = loop[2].split() if loop else [""]
        for value in dict.fromkeys((values[0], values[-1])):
            body = loop[3].replace(f"${loop[1]}", value) if loop else command
            found += [line.strip() for line in body.splitlines() if line.strip()]
    return found


def _read(line: str) -> dict[str, Any]:
    """Return the options of a command as it would read them; an unknown or a missing one is an error."""
    program, name, *arguments = shlex.split(line, comments=True)
    assert program == "heal"
    command = COMMANDS[name].load(name)
    context = command.make_context(name, arguments)
    if hasattr(command, "resolve_command"):
        _, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(command.name, rest, parent=context)
    return dict(context.params)


@pytest.mark.parametrize("line", _lines())
def test_a_command_has_its_options_and_its_configurations(line: str) -> None:
    options = _read(line)
    if "config" in options:
        path = config_path(options["config"])
        if line.startswith("heal train base"):
            resolve_settings(path, None, list(options["overrides"] or []))
    if line.startswith("heal train agent"):
        assert type_path(options["agent_type"]).is_file()


def test_a_wrong_option_is_found_among_many_right_ones() -> None:
    assert len(_lines()) > 30
    with pytest.raises(Exception, match="No such option"):
        _read("heal evaluate --alliance A --data D --out O --late-fusion")
