"""The allow list of a receiver: whose messages it takes, by which public keys, from when until when; a YAML file."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from heal.config import config, load_config, to_plain
from heal.errors import UserError
from heal.identity.envelope import key_id_of
from heal.identity.file_stamp import FileStamp

ALLOW_LIST_FILE = "allowed.yaml"
PUBLIC_KEY_BYTES = 32
_log = logging.getLogger(__name__)


@config
class AllowedKey:
    """One public key of an agent, and when it counts. All times have a UTC offset, such as 2026-11-30T08:00:00Z.

    Attributes:
        public: the public key, 64 hexadecimal digits.
        valid_from: the key counts from this time on; None: it has always counted.
        valid_until: the key counts until just before this time; None: for ever.
        revoked: from this time on the key does not count, whatever else is said; None if it is not revoked.
    """

    public: str
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    revoked: datetime | None = None

    def __post_init__(self) -> None:
        """Check the key and the times."""
        if not _is_hex(self.public, PUBLIC_KEY_BYTES):
            raise ValueError(f"public: expected {2 * PUBLIC_KEY_BYTES} hexadecimal digits, got {self.public!r}")
        for name in ("valid_from", "valid_until", "revoked"):
            moment = getattr(self, name)
            if moment is not None and moment.utcoffset() is None:
                raise ValueError(f"{name}: expected a time with a UTC offset, such as 2026-11-30T08:00:00Z, got {moment}")

    @property
    def key_id(self) -> bytes:
        """The 16 bytes by which envelopes name the key."""
        return key_id_of(bytes.fromhex(self.public))

    def problem(self, moment: datetime) -> tuple[str, str] | None:
        """Return the reason and the detail why the key does not count at a moment; None if it counts."""
        if self.revoked is not None and moment >= self.revoked:
            return "key revoked", f"at {self.revoked.isoformat()}"
        if self.valid_until is not None and moment >= self.valid_until:
            return "key expired", f"at {self.valid_until.isoformat()}"
        if self.valid_from is not None and moment < self.valid_from:
            return "key not valid yet", f"before {self.valid_from.isoformat()}"
        return None


@config
class AllowedAgent:
    """The keys of one agent.

    Attributes:
        keys: several count at the same time while keys are rolled over.
        types: the agent types that the agent may have; None for any.
    """

    keys: tuple[AllowedKey, ...]
    types: tuple[str, ...] | None = None


@config
class AllowList:
    """The agents whose messages a receiver takes, by their ids."""

    agents: Mapping[str, AllowedAgent] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that every key belongs to one agent alone."""
        owners: dict[bytes, str] = {}
        for agent_id, agent in self.agents.items():
            for key in agent.keys:
                if owners.setdefault(key.key_id, agent_id) != agent_id:
                    raise ValueError(f"agents {owners[key.key_id]!r} and {agent_id!r} have the same key {key.public[:16]}...")

    @staticmethod
    def read(path: Path) -> AllowList:
        """Read an allow list.

        Raises:
            ConfigError: there is no such file, or it is no allow list; the message names every bad key.
        """
        return load_config(AllowList, path)

    def to_yaml(self) -> str:
        """Return the text of the file."""
        import yaml

        return yaml.safe_dump(_as_text(to_plain(self)), sort_keys=False)

    def with_agent(self, agent_id: str, agent: AllowedAgent) -> AllowList:
        """Return the list with an agent added or changed."""
        return replace(self, agents={**self.agents, agent_id: agent})


@dataclass(frozen=True)
class Owner:
    """Whose key it is.

    Attributes:
        agent_id: the agent.
        types: the agent types that it may have; None for any.
        key: the key.
    """

    agent_id: str
    types: tuple[str, ...] | None
    key: AllowedKey


class AllowedSenders:
    """The allow list of a run, read again when its file has changed.

    Attributes:
        since_ns: Unix time in nanoseconds at which the run began. Sequence numbers are times, so a message with an older one was
            signed for another run.
        used: the largest sequence number of each key, by its id, that a receiver in this one's place has used before.
    """

    def __init__(self, path: Path, since_ns: int | None = None) -> None:
        """Read the list.

        Args:
            path: of the file.
            since_ns: see `AllowedSenders`; None for now.

        Raises:
            ConfigError: there is no such file, or it is no allow list.
        """
        self._path, self._stamp = path, FileStamp.of(path)
        self._owners = _owners(AllowList.read(path))
        self.since_ns = time.time_ns() if since_ns is None else since_ns
        self.used: Mapping[bytes, int] = {}

    def from_now(self) -> AllowedSenders:
        """Return the list for a receiver that begins now, to which nobody can have sent what was signed before."""
        own = copy.copy(self)
        own.since_ns = time.time_ns()
        return own

    def after(self, used: Mapping[bytes, int]) -> AllowedSenders:
        """Return the list for a receiver in the place of another one, which has used these sequence numbers."""
        own = copy.copy(self)
        own.used = dict(used)
        return own

    def refresh(self) -> None:
        """Read the file again if it has changed.

        A file that is gone or damaged is logged once, and the list stays as it was: an editor may be at work on it.
        """
        try:
            stamp = FileStamp.of(self._path)
        except OSError:  # such as a server of files that does not answer
            stamp = None
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._owners = _owners(AllowList.read(self._path))
            _log.info("%s has changed, public keys: %d", self._path, len(self._owners))
        except Exception as error:  # noqa: BLE001 - whatever is in the file, the run goes on
            _log.warning("%s: the allow list stays as it was: %s", self._path, error)

    def owner(self, key_id: bytes) -> Owner | None:
        """Return whose key has an id of 16 bytes; None if it is nobody's."""
        return self._owners.get(key_id)


def allow_list_path(folder: Path) -> Path:
    """Return the file of the allow list in a folder of keys.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; make keys for the agents of a run with `heal keys new {folder} --agents ID,ID`")
    return folder / ALLOW_LIST_FILE


def now() -> datetime:
    """Return the present time, in UTC."""
    return datetime.now(timezone.utc)


def _owners(allowed: AllowList) -> dict[bytes, Owner]:
    return {key.key_id: Owner(agent_id, agent.types, key) for agent_id, agent in allowed.agents.items() for key in agent.keys}


def _is_hex(text: str, length: int) -> bool:
    return len(text) == 2 * length and all(digit in "0123456789abcdef" for digit in text)


def _as_text(values: Any) -> Any:
    """Return nested plain values without Nones, with times as texts, which a person reads."""
    if isinstance(values, dict):
        return {key: _as_text(value) for key, value in values.items() if value is not None}
    if isinstance(values, list):
        return [_as_text(value) for value in values]
    return values.astimezone(timezone.utc).isoformat().replace("+00:00", "Z") if isinstance(values, datetime) else values
