"""The folder of a Ray that is started for a run: its sockets, logs, and objects that do not fit into shared memory."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from heal.errors import UserError

VARIABLE = "RAY_TMPDIR"
# The address of a socket has at most 107 bytes. To our folder, with its name of 12 characters, Ray appends the name of its session,
# which has a process number of up to 7 digits, and that of the socket.
_APPENDED = len("/ray01234567" + "/session_2026-11-29_00-42-24_701168_4194304" + "/sockets/plasma_store")
LONGEST_PATH = 107 - _APPENDED
LEAST_BYTES = 64 * 2**20


def make_folder() -> tuple[Path, bool]:
    """Make a new folder under RAY_TMPDIR if that is set; otherwise under TMPDIR, or under /tmp where TMPDIR does not do.

    Returns:
        The folder, and whether it is to be kept after the run, because the user has said where it lies.

    Raises:
        UserError: no folder can be used; the message says why.
    """
    asked = os.environ.get(VARIABLE)
    bases = [asked] if asked else list(dict.fromkeys([os.environ.get("TMPDIR") or "/tmp", "/tmp", "/var/tmp"]))
    reasons = []
    for base in bases:
        path = Path(base).resolve()
        reason = why_unusable(path)
        if reason is None:
            return Path(tempfile.mkdtemp(prefix="ray", dir=path)), bool(asked)
        reasons.append(f"{base}: {reason}")
    raise UserError(
        f"no folder for Ray's files: {'; '.join(reasons)}. Set {VARIABLE} to a folder on a local disk, with a path of at most "
        f"{LONGEST_PATH} ASCII characters"
    )


def why_unusable(base: Path) -> str | None:
    """Return why Ray's folder cannot lie in a folder, which is made if it is not there; None if it can."""
    if not str(base).isascii():
        return "the path has characters beyond ASCII"
    if len(str(base)) > LONGEST_PATH:
        return f"the path has {len(str(base))} characters, too many for the addresses of Ray's sockets"
    try:
        base.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(base).free
        if free < LEAST_BYTES:
            return f"{free / 2**20:.0f} MiB of the disk are free, needed are {LEAST_BYTES / 2**20:.0f} MiB"
        with tempfile.TemporaryFile(dir=base) as file:
            file.write(b"0")
            file.flush()
    except OSError as error:
        return os.strerror(error.errno or 0)
    return None
