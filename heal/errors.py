"""The errors that `heal` prints in one line, because the user can correct their cause; every other error keeps its traceback."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

# Causes that lie with the disk, the path or the permissions, not with the program.
_FILE_SYSTEM_CAUSES = {
    errno.ENOSPC: "no space is left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system can only be read",
    errno.EACCES: "permission denied",
    errno.EPERM: "the operation is not permitted",
    errno.ENOTDIR: "a part of the path is a file, expected a folder",
    errno.EISDIR: "it is a folder, expected a file",
    errno.EEXIST: "a file of this name is there already",
    errno.ENOTEMPTY: "the folder is not empty",
    errno.ENOENT: "no such file or folder",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "its links lead in a circle",
    errno.EFBIG: "the file is too large for the file system",
    errno.EIO: "the disk cannot be read or written",
    errno.ESTALE: "the network file system has lost it",
}


class UserError(ValueError):
    """A mistake that the user can correct; the message says what was expected, what came, and what to do.

    Base class of all errors that the command `heal` prints in one line. Errors of libraries are not of this class.
    """


def require_package(module: str, extra: str, user: str) -> None:
    """Check that the package of an extra is installed.

    Args:
        module: name under which the package is imported.
        extra: of `heal-perception`, which installs the package.
        user: what needs the package, such as "the town".

    Raises:
        UserError: the package is not installed.
    """
    if find_spec(module) is None:
        raise UserError(f"{user} needs {module}, which is not installed: pip install 'heal-perception[{extra}]'")


def file_system_cause(error: OSError) -> str | None:
    """Return the path and the cause of an error of the file system in one sentence; None for any other OSError."""
    cause = _FILE_SYSTEM_CAUSES.get(error.errno or 0)
    if cause is None:
        return None
    paths = [os.fspath(path) for path in (error.filename, error.filename2) if path is not None]
    return f"{' -> '.join(map(str, paths)) or 'a file cannot be read or written'}: {cause}"


@contextmanager
def naming_errors_after(path: Path, overrule: bool = False) -> Iterator[None]:
    """Name `path` in errors of the file system that the block raises and that name no file, such as that of a full disk.

    Args:
        path: file or folder that the block works on.
        overrule: also name `path` where the error names a file, because the block writes to a temporary file.
    """
    try:
        yield
    except OSError as error:
        if (overrule or error.filename is None) and file_system_cause(error) is not None:
            error.filename, error.filename2 = str(path), None
        raise
