"""Private keys on disk: one PEM file for each agent, which its owner alone can read."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import quote

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from heal.errors import UserError

PRIVATE_FOLDER = "private"
_OWNER_ONLY = 0o600
_MAX_FILE_BYTES = 4096


def private_key_path(folder: Path, agent_id: str) -> Path:
    """Return the file of an agent's private key in a folder of keys; ids may have characters that file names may not."""
    return folder / PRIVATE_FOLDER / f"{quote(agent_id, safe='')}.pem"


def public_key_of(key: Ed25519PrivateKey) -> bytes:
    """Return the public key, 32 bytes."""
    return key.public_key().public_bytes_raw()


def write_private_key(path: Path, key: Ed25519PrivateKey) -> None:
    """Write a private key into a new file, which its owner alone can read.

    Raises:
        UserError: the file exists.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
    except FileExistsError as error:
        raise UserError(f"{path}: there is a private key already, and it is not overwritten; use `heal keys roll`") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def replace_private_key(path: Path, key: Ed25519PrivateKey) -> None:
    """Put a private key in the place of another one; whoever reads the file meanwhile sees one of them whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        write_private_key(temporary, key)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is no private key of Ed25519 in PEM, or others than its owner can read it.
    """
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if os.name == "posix" and mode & 0o077:
            raise UserError(f"{path}: others can read this private key (mode {mode:03o}), expected mode 600: chmod 600 {path}")
        content = file.read(_MAX_FILE_BYTES)
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UserError(f"{path}: expected a private key of Ed25519 in PEM, without a password: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UserError(f"{path}: expected a private key of Ed25519, got {type(key).__name__}")
    return key
