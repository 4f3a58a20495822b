"""Adding an agent type to an alliance: a checked copy of its folder; one that is not aligned to the base is marked."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from heal.agent_model import AgentModel
from heal.alliance import AgentCard, Alliance, AllianceError, open_base
from heal.atomic_write import folder_made_whole
from heal.config import save_config
from heal.storage.parts import load_network, read_card, require_type_name

CARD_NAME, WEIGHTS_NAME = "agent.yaml", "agent.safetensors"


def add_type(path: Path, source: Path, name: str, unaligned: bool) -> str:
    """Copy an agent type into an alliance, and say what was done.

    Args:
        path: folder of the alliance.
        source: folder of the type.
        name: its name in the alliance.
        unaligned: whether the type was trained beside another base, which its record keeps.

    Raises:
        AllianceError: there is such a type already, the type's weights are damaged or do not fit the alliance's maps, or it is
            aligned to another base and not `unaligned`, or the other way round.
    """
    alliance = open_base(path)
    card: AgentCard = read_card(AgentCard, source / CARD_NAME)
    require_type_name(name)
    if (path / name).exists():
        raise AllianceError(f"{path / name} exists already; choose another name with --as")
    _require_alignment(alliance, source, card, unaligned)
    _require_fitting(alliance, source, card)
    with folder_made_whole(path / name) as temporary:
        shutil.copytree(source, temporary)
        save_config(replace(card, unaligned=unaligned), temporary / CARD_NAME)
    if not unaligned:
        return f"{path}: added {name}"
    return f"{path}: added {name}, which is aligned to the base {card.base_hash[:12]} and not to this one; --types {name} uses it"


def _require_alignment(alliance: Alliance, source: Path, card: AgentCard, unaligned: bool) -> None:
    """Raise AllianceError if the type is aligned to another base than is said."""
    aligned = card.base_hash == alliance.base_hash
    if aligned and unaligned:
        raise AllianceError(f"{source} is aligned to the base of {alliance.path}; add it without --unaligned")
    if not aligned and not unaligned:
        raise AllianceError(
            f"{source} is aligned to the base {card.base_hash[:12]}, but that of {alliance.path} is {alliance.base_hash[:12]}; "
            "align it with `heal train agent`, or add it as it is with --unaligned, to measure what its alignment would bring"
        )


def _require_fitting(alliance: Alliance, source: Path, card: AgentCard) -> None:
    """Raise AllianceError for damaged weights, and for maps of other cells or channels than the base reads."""
    wanted = alliance.base.config.in_channels
    load_network(lambda: AgentModel(card.config, alliance.sensed_grid), card.config, source / WEIGHTS_NAME, card.hash)
    if card.config.backbone.out_channels != wanted:
        raise AllianceError(f"{source} makes maps of {card.config.backbone.out_channels} channels, but the base reads {wanted}")
