"""How much a command says besides its results: `--quiet`, `--verbose` and `--debug` as levels of logging.

Lines about waiting, such as "starting Ray", are messages of the loggers of `heal` with the level INFO, wherever they come from.
"""

from __future__ import annotations

import logging
import os
import sys

from heal.errors import UserError

# Set to anything but 0, it gives every error its traceback, as --debug does.
TRACEBACK_VARIABLE = "HEAL_TRACEBACK"
# Loggers of libraries that log nothing that helps, in great amounts, even with --debug.
TALKATIVE = ("matplotlib", "PIL", "urllib3", "asyncio", "jaxtyping")
_OURS = logging.getLogger("heal")


class LineHandler(logging.Handler):
    """Writes each message as a line to the standard error stream of the moment, which a progress bar replaces."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message; those of warnings and errors begin with the level, those of other libraries with their name."""
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        source = "" if record.name.partition(".")[0] == _OURS.name else f"{record.name}: "
        sys.stderr.write(f"{level}{source}{self.format(record)}\n")


def set_verbosity(quiet: bool = False, verbose: bool = False, debug: bool = False) -> None:
    """Choose which messages are shown: all but errors are left out, or those of `heal` in detail, or those of all libraries too.

    Raises:
        UserError: more than one is chosen.
    """
    if quiet + verbose + debug > 1:
        raise UserError("--quiet, --verbose and --debug exclude each other; use one of them")
    root = logging.getLogger()
    if not any(isinstance(handler, LineHandler) for handler in root.handlers):
        root.addHandler(LineHandler())
    others = logging.ERROR if quiet else logging.DEBUG if debug else logging.WARNING
    root.setLevel(others)
    _OURS.setLevel(logging.ERROR if quiet else logging.DEBUG if verbose or debug else logging.INFO)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(max(others, logging.WARNING))


def shows_waiting() -> bool:
    """Return whether progress bars are shown."""
    return _OURS.getEffectiveLevel() < logging.ERROR


def shows_tracebacks() -> bool:
    """Return whether mistakes of the user, too, keep their traceback."""
    return logging.getLogger().level == logging.DEBUG or os.environ.get(TRACEBACK_VARIABLE, "0") not in ("", "0")
