"""The one error that every reader raises for input that it cannot use."""

from __future__ import annotations

from pathlib import Path


class DatasetError(ValueError):
    """Data on disk that cannot be used; the message names the file and the cause."""

    def __init__(self, path: Path, cause: str) -> None:
        """Say which file and why.

        Args:
            path: the offending file or folder.
            cause: what was expected and what came.
        """
        super().__init__(path, cause)
        self.path = path
        self.cause = cause

    def __str__(self) -> str:
        """The file, then the cause."""
        return f"{self.path}: {self.cause}"


class UnknownAgentError(DatasetError, KeyError):
    """An agent that takes no part in a scene; the message names those that do."""
