"""A folder of keys: the agents' private keys and the allow list with their public keys; new agents, roll-over, revocation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from heal.atomic_write import write_text
from heal.errors import UserError
from heal.identity.allow_list import ALLOW_LIST_FILE, AllowedAgent, AllowedKey, AllowList, allow_list_path
from heal.identity.keys import private_key_path, public_key_of, replace_private_key, write_private_key


def add_agents(
    folder: Path, agent_ids: Sequence[str], moment: datetime, valid: timedelta | None, types: Sequence[str] | None = None
) -> AllowList:
    """Make a private key for each agent, and allow its public key; the folder is made if it is not there.

    Args:
        folder: of the keys.
        agent_ids: the new agents.
        moment: from which on the keys count.
        valid: for how long they count; None for ever.
        types: the agent types that the agents may have; None for any.

    Returns:
        The new allow list.

    Raises:
        UserError: an agent has a key already; then nothing is written.
    """
    path = folder / ALLOW_LIST_FILE
    allowed = AllowList.read(path) if path.exists() else AllowList()
    private = {agent_id: private_key_path(folder, agent_id) for agent_id in dict.fromkeys(agent_ids)}
    if there := [agent_id for agent_id, file in private.items() if agent_id in allowed.agents or file.exists()]:
        raise UserError(f"{folder}: {', '.join(there)} have keys already, which are not overwritten; use `heal keys roll`")
    keys = {agent_id: Ed25519PrivateKey.generate() for agent_id in private}
    for agent_id, key in keys.items():
        allowed = allowed.with_agent(agent_id, AllowedAgent(keys=(_allowed(key, moment, valid),), types=_tuple(types)))
    _write_all({private[agent_id]: key for agent_id, key in keys.items()})
    write_text(path, allowed.to_yaml())
    return allowed


def roll_keys(folder: Path, agent_ids: Iterable[str], moment: datetime, overlap: timedelta, valid: timedelta | None) -> AllowList:
    """Give agents new keys; their present keys count for some time longer, so that no message is refused meanwhile.

    The allow list is written before the private keys: a receiver knows a new key before a message is signed with it.

    Args:
        folder: of the keys.
        agent_ids: the agents.
        moment: from which on the new keys count.
        overlap: for how long the present keys still count.
        valid: for how long the new keys count; None for ever.

    Returns:
        The new allow list.

    Raises:
        UserError: an agent is not on the allow list.
    """
    allowed, keys = _read(folder), dict[str, Ed25519PrivateKey]()
    for agent_id in agent_ids:
        keys[agent_id], agent, until = Ed25519PrivateKey.generate(), _agent(allowed, folder, agent_id), moment + overlap
        ending = tuple(replace(key, valid_until=min(key.valid_until or until, until)) for key in agent.keys)
        new = _allowed(keys[agent_id], moment, valid)
        allowed = allowed.with_agent(agent_id, replace(agent, keys=(*ending, new)))
    write_text(folder / ALLOW_LIST_FILE, allowed.to_yaml())
    for agent_id, key in keys.items():
        replace_private_key(private_key_path(folder, agent_id), key)
    return allowed


def revoke_keys(folder: Path, agent_ids: Iterable[str], moment: datetime) -> AllowList:
    """Revoke all keys that agents have, from a moment on; keys that are revoked already stay as they are.

    Args:
        folder: of the keys.
        agent_ids: the agents.
        moment: from which on the keys do not count.

    Returns:
        The new allow list.

    Raises:
        UserError: an agent is not on the allow list.
    """
    allowed = _read(folder)
    for agent_id in agent_ids:
        agent = _agent(allowed, folder, agent_id)
        revoked = tuple(replace(key, revoked=min(key.revoked or moment, moment)) for key in agent.keys)
        allowed = allowed.with_agent(agent_id, replace(agent, keys=revoked))
    write_text(folder / ALLOW_LIST_FILE, allowed.to_yaml())
    return allowed


def _read(folder: Path) -> AllowList:
    return AllowList.read(allow_list_path(folder))


def _agent(allowed: AllowList, folder: Path, agent_id: str) -> AllowedAgent:
    if agent_id not in allowed.agents:
        there = ", ".join(allowed.agents) or "none"
        raise UserError(f"{folder / ALLOW_LIST_FILE}: no agent {agent_id!r}, there are {there}")
    return allowed.agents[agent_id]


def _allowed(key: Ed25519PrivateKey, moment: datetime, valid: timedelta | None) -> AllowedKey:
    until = None if valid is None else moment + valid
    return AllowedKey(public=public_key_of(key).hex(), valid_from=moment, valid_until=until)


def _tuple(types: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if types is None else tuple(types)


def _write_all(keys: Mapping[Path, Ed25519PrivateKey]) -> None:
    """Write private keys into new files; after an error, such as that of a full disk, none of them is left."""
    written: list[Path] = []
    try:
        for path, key in keys.items():
            write_private_key(path, key)
            written.append(path)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
