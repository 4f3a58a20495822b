"""The options that the command line's applications have in common."""

from __future__ import annotations

from typing import Any

# Of every command and group below `heal`; the completion of a shell is installed by `heal` itself.
STYLE: dict[str, Any] = {"rich_markup_mode": None, "pretty_exceptions_enable": False, "add_completion": False}
