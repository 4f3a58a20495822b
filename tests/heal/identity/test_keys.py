"""Private keys on disk: nobody else reads them, none is overwritten, and a wrong file is named."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from heal.errors import UserError
from heal.identity.keys import private_key_path, public_key_of, read_private_key, replace_private_key, write_private_key

KEY = Ed25519PrivateKey.generate()


def test_a_private_key_is_written_for_its_owner_alone_and_read_back(tmp_path: Path) -> None:
    path = private_key_path(tmp_path / "keys", "-1")
    write_private_key(path, KEY)
    assert public_key_of(read_private_key(path)) == public_key_of(KEY)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_no_private_key_is_overwritten_but_one_can_be_replaced(tmp_path: Path) -> None:
    path, other = tmp_path / "a.pem", Ed25519PrivateKey.generate()
    write_private_key(path, KEY)
    with pytest.raises(UserError, match="there is a private key already"):
        write_private_key(path, other)
    assert public_key_of(read_private_key(path)) == public_key_of(KEY)
    replace_private_key(path, other)
    assert public_key_of(read_private_key(path)) == public_key_of(other)
    assert list(tmp_path.iterdir()) == [path] and stat.S_IMODE(path.stat().st_mode) == 0o600


def test_every_agent_has_a_file_of_its_own_inside_of_the_folder(tmp_path: Path) -> None:
    ids = ("-1", "..", "a/b", "a%2Fb", "../../x", "a\0b", "ä", "A")
    paths = [private_key_path(tmp_path, agent_id) for agent_id in ids]
    assert len(set(paths)) == len(ids) and {path.resolve().parent for path in paths} == {tmp_path.resolve() / "private"}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.pem"
    write_private_key(path, KEY)
    path.chmod(mode)
    with pytest.raises(UserError, match=f"mode {mode:03o}.*chmod 600"):
        read_private_key(path)


def _other_files() -> dict[str, bytes]:
    curve = generate_private_key(SECP256R1())
    locked = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    whole = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    other = curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return {"empty": b"", "text": b"hello", "half": whole[:60], "locked": locked, "another kind": other, "zeros": bytes(100_000)}


@pytest.mark.parametrize("content", _other_files().values(), ids=_other_files())
def test_what_is_no_private_key_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(UserError, match=r"a\.pem: expected a private key of Ed25519"):
        read_private_key(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read_private_key(path)
