"""The networks of late fusion: several alliances, such as one single-agent detector for each type, seen as one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from heal.agent_model import AgentModel
from heal.alliance import AgentCard, Alliance
from heal.base_model import BaseModel
from heal.errors import UserError
from heal.grid import Range
from heal.storage.compressors import StoredCompressor
from heal.tools.checks.ranges import open_on_range
from heal.tools.shared.made_by import AllianceRecord


class LateAlliance(Alliance):
    """The agent types of several alliances, each with its own base; grid, card and path are those of the first alliance."""

    def __init__(self, members: Sequence[Alliance]) -> None:
        """Join alliances; UserError if two of them have a type of the same name, or other classes."""
        first = members[0]
        super().__init__(first.path, first.card, first.base)
        self.members, self._home = tuple(members), dict[str, Alliance]()
        self.unaligned = frozenset(name for member in members for name in member.unaligned)
        for member in members:
            ours, theirs = ("; ".join(map(str, one.base.config.object_classes)) for one in (first, member))
            if ours != theirs:
                raise UserError(
                    f"--alliance: {first.path} detects {ours}, and {member.path} {theirs}; boxes of other classes cannot be joined"
                )
            for name in (*member.agent_names, *sorted(member.unaligned)):
                if name in self._home:
                    raise UserError(
                        f"--alliance: {self._home[name].path} and {member.path} both have an agent type {name}; leave one of them "
                        "out, or import or train it under another name"
                    )
                self._home[name] = member

    @property
    def base_hash(self) -> str:
        """A hash of all bases; that of the base if there is one."""
        hashes = [member.base_hash for member in self.members]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()

    @cached_property
    def compressors(self) -> Mapping[int, StoredCompressor]:
        """None: no maps are sent."""
        return {}

    @property
    def agent_names(self) -> tuple[str, ...]:
        """The agent types of all alliances that belong to their bases, in alphabetical order."""
        return tuple(sorted(name for name in self._home if name not in self.unaligned))

    def agent_card(self, name: str) -> AgentCard:
        """Read the card of an agent type from its alliance."""
        return self._alliance_of(name).agent_card(name)

    def agent(self, name: str) -> AgentModel:
        """Return the network of an agent type."""
        return self._alliance_of(name).agent(name)

    def base_of(self, name: str) -> BaseModel:
        """Return the base that an agent type belongs to."""
        return self._alliance_of(name).base

    @property
    def record(self) -> AllianceRecord:
        """The record of all alliances for outputs."""
        return AllianceRecord(path=", ".join(str(member.path) for member in self.members), hash=AllianceRecord.of(self).hash)

    def _alliance_of(self, name: str) -> Alliance:
        """Return the alliance of an agent type; UserError if none has the type."""
        if name not in self._home:
            folders = ", ".join(str(member.path) for member in self.members)
            raise UserError(f"--late: no agent type {name!r} in {folders}; there are {', '.join(self.agent_names) or 'none'}")
        return self._home[name]


def open_for_evaluation(paths: Sequence[Path], late: bool, range_m: Range | None) -> Alliance:
    """Open the alliance of an evaluation, or with `late` the alliances, for fast inference.

    Args:
        paths: folders; several of them only with `late`.
        late: whether every agent detects alone.
        range_m: the evaluated range; None for the one that each alliance was trained on.

    Raises:
        AllianceError: a folder is no alliance.
        UserError: several folders without `late`, two types of the same name, or a range that does not fit the networks.
    """
    if len(paths) > 1 and not late:
        raise UserError("--alliance: several alliances are for late fusion; add --late, or give one of them")
    opened = [open_on_range(path, range_m).for_inference() for path in paths]
    return LateAlliance(opened) if late else opened[0]
