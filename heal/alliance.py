"""An alliance on disk: a base and the agent types aligned to it, each in a folder with its weights and a record.

    alliance/
      base/        base.safetensors   base.yaml     configuration, training record, content hash
      m1/          agent.safetensors  agent.yaml    the same, and the hash of the base that the type is aligned to
      compressor/  ae8.safetensors    ae8.yaml      the same of a compressor, by its ratio (`heal.storage.compressors`)

Opening an alliance checks every hash. An agent type or a compressor is left out with a warning if it does not belong to the base,
if its record cannot be read, or if its encoder is not installed. Weights are safetensors, so no pickle is ever loaded. Apart from
`heal.config`, `heal.plugins`, `heal.atomic_write` and `heal.storage`, no other module of `heal` itself reads or writes files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from heal.agent_model import AgentConfig, AgentModel
from heal.base_model import BaseConfig, BaseModel
from heal.config import ConfigError, config, later
from heal.defence.statistics import MapStatistics
from heal.fusion.interface import Fusion
from heal.grid import BevGrid, Range
from heal.layers.inference import for_inference
from heal.storage.compressors import StoredCompressor, load_compressors
from heal.storage.parts import (
    AllianceError,
    hash_content,
    load_network,
    read_card,
    require_type_name,
    save_part,
    state_to_store,
    warn_once,
)
from heal.storage.records import TrainingRecord, ValidationRecord

# The names of the parts that most users of an alliance need too.
__all__ = ["AllianceError", "TrainingRecord", "ValidationRecord"]


@config
class BaseCard:
    """The content of base.yaml.

    Attributes:
        hash: content hash of configuration and weights.
        config: configuration of the base.
        training: the training that the weights come from.
    """

    hash: str
    config: BaseConfig
    training: TrainingRecord = TrainingRecord()


@config
class AgentCard:
    """The content of agent.yaml.

    Attributes:
        hash: content hash of configuration and weights.
        base_hash: hash of the base that the type is aligned to.
        config: configuration of the agent type.
        training: the training that the weights come from.
        trust: factor in (0, 1] on the weight of the type's maps where they are fused with others; no part of the hash.
        unaligned: whether the type was added on purpose beside a base that it is not aligned to, as an ablation. `base_hash` is
            then that of its own base.
        statistics: of the type's honest maps, by which lies are told from them (docs/lying_senders.md); no part of the hash.
    """

    hash: str
    base_hash: str
    config: AgentConfig
    training: TrainingRecord = TrainingRecord()
    trust: float = 1.0
    unaligned: bool = False
    statistics: MapStatistics | None = later(None)

    def __post_init__(self) -> None:
        """Raise ConfigError for a trust out of range."""
        if not 0 < self.trust <= 1:
            raise ConfigError(f"trust: expected more than 0 and at most 1, got {self.trust}")


class Alliance:
    """An open alliance. Models are on the CPU in eval mode; an agent type is loaded on its first use.

    Attributes:
        foreign: agent types in the folder that were left out when the alliance was opened -> the reason.
        unaligned: agent types in the folder that are marked as not aligned to the base, and are used only where they are named.
    """

    def __init__(
        self,
        path: Path,
        card: BaseCard,
        base: BaseModel,
        fast: bool = False,
        foreign: Mapping[str, str] | None = None,
        unaligned: Collection[str] = (),
    ) -> None:
        """Take the base that `load_alliance` has read; `fast` has agent types made fast by `heal.layers.inference` when loaded."""
        self.path, self.card, self.base, self._fast = path, card, base, fast
        self.foreign: dict[str, str] = dict(foreign or {})
        self.unaligned = frozenset(unaligned)
        self._agents: dict[str, AgentModel] = {}

    def for_inference(self) -> Alliance:
        """Return the alliance with networks for fast inference (`heal.layers.inference`), which cannot be trained or saved."""
        return Alliance(self.path, self.card, for_inference(self.base), True, self.foreign, self.unaligned)

    @property
    def base_hash(self) -> str:
        """Content hash of the base."""
        return self.card.hash

    @property
    def trunk(self) -> Fusion:
        """The part of the base that agents run too: for messages of the pyramid split, and for foreground scores."""
        return self.base.fusion

    @property
    def grid(self) -> BevGrid:
        """The grid of all feature maps."""
        return self.base.config.grid

    @property
    def sensed_grid(self) -> BevGrid:
        """The grid of the agents' networks: `grid`, but with the heights that the base was trained on, because these enter them."""
        trained, (x_min, y_min, _, x_max, y_max, _) = self.card.config.grid.range_m, self.grid.range_m
        return replace(self.grid, range_m=(x_min, y_min, trained[2], x_max, y_max, trained[5]))

    @property
    def agent_names(self) -> tuple[str, ...]:
        """The agent types in the folder that belong to the base, in alphabetical order."""
        return tuple(name for name in self._folders() if name not in self.foreign and name not in self.unaligned)

    def agent_card(self, name: str) -> AgentCard:
        """Read the card of an agent type; AllianceError if the type is missing or cannot be used with this base."""
        if name not in self._folders():
            raise AllianceError(f"{self.path}: no agent type {name!r}; there are {', '.join(self.agent_names) or 'none'}")
        return read_agent_card(self.path / name, self.base_hash)

    def agent(self, name: str) -> AgentModel:
        """Return the network of an agent type; it is loaded on the first call."""
        if name not in self._agents:
            card = self.agent_card(name)
            if card.unaligned:
                warn_once(f"agent type {name} is not aligned to the base of {self.path}")
            model = load_agent(self.path / name, card, self.sensed_grid)
            self._agents[name] = for_inference(model) if self._fast else model
        return self._agents[name]

    def trust_of(self, name: str) -> float:
        """Return the trust in an agent type (see `AgentCard`)."""
        return self.agent_card(name).trust

    def statistics_of(self, name: str) -> MapStatistics | None:
        """Return the statistics of an agent type's honest maps; None if they have not been recorded."""
        return self.agent_card(name).statistics

    @cached_property
    def compressors(self) -> Mapping[int, StoredCompressor]:
        """The compressors for maps of this base, by ratio; one that cannot be used is left out with a warning."""
        found, problems = load_compressors(self.path, self.base_hash)
        for problem in problems.values():
            warn_once(f"a compressor is left out: {problem}")
        return {ratio: part.for_inference() if self._fast else part for ratio, part in found.items()}

    def leave_out_foreign(self, warn: bool = True) -> None:
        """Note the types that cannot be used, and log a warning for each if `warn`; note also those that are not aligned."""
        self.foreign = {name: problem for name in self._folders() if (problem := self._problem_of(name))}
        self.unaligned = frozenset(name for name in self._folders() if name not in self.foreign and self.agent_card(name).unaligned)
        for name, problem in self.foreign.items() if warn else ():
            warn_once(f"agent type {name} is left out: {problem}")

    def _problem_of(self, name: str) -> str:
        """Return why a type cannot be used, from its record alone; empty if it can."""
        try:
            self.agent_card(name)
        except AllianceError as error:
            return str(error)
        return ""

    def _folders(self) -> list[str]:
        """Return the names of all folders with an agent type, in alphabetical order."""
        names = [path.parent.name for path in self.path.glob("*/agent.yaml")]
        return sorted(name for name in names if not name.startswith("."))


def load_alliance(path: Path | str, range_m: Range | None = None) -> Alliance:
    """Open an alliance folder.

    Args:
        path: the folder.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max, a range to use instead of the trained one, with cells of the same size.
            The networks are convolutions in x and y, so they run over any range there. In z the range selects boxes only.

    Raises:
        AllianceError: the folder is no alliance, or a file of the base is missing, unreadable or has another hash than recorded.
            The same error of an agent type is raised when the type is asked for.
    """
    alliance = open_base(Path(path), range_m)
    alliance.leave_out_foreign()
    return alliance


def open_base(path: Path, range_m: Range | None = None) -> Alliance:
    """Open an alliance as `load_alliance` does, but without a look at its agent types."""
    card = read_base_card(path)
    asked = card.config if range_m is None else replace(card.config, grid=replace(card.config.grid, range_m=range_m))
    base = load_network(lambda: BaseModel(asked), card.config, path / "base" / "base.safetensors", card.hash)
    return Alliance(path, card, base)


def read_base_card(path: Path) -> BaseCard:
    """Read the card of the base of an alliance; AllianceError if the folder is no alliance or the card is unreadable."""
    card_path = path / "base" / "base.yaml"
    if path.is_file():
        raise AllianceError(f"{path} is a file, expected an alliance folder; `heal alliance unpack` makes one of an archive")
    if not card_path.is_file():
        raise AllianceError(f"{path} is not an alliance: {card_path} is missing; `heal train base` makes one")
    card: BaseCard = read_card(BaseCard, card_path)
    return card


def read_agent_card(folder: Path, base_hash: str) -> AgentCard:
    """Read the card in the folder of an agent type; AllianceError if it is unreadable, or of a type for another base."""
    card: AgentCard = read_card(AgentCard, folder / "agent.yaml")
    if card.base_hash != base_hash and not card.unaligned:
        raise AllianceError(
            f"{folder}: {folder.name} is aligned to the base {card.base_hash[:12]}, but the base here is {base_hash[:12]}; "
            "put it beside its own base, or align it to this one"
        )
    return card


def load_agent(folder: Path, card: AgentCard, grid: BevGrid) -> AgentModel:
    """Load the network of an agent type from its folder, on a grid with the heights that the base was trained on.

    Raises:
        AllianceError: the weights cannot be read, or do not belong to the card.
    """
    return load_network(lambda: AgentModel(card.config, grid), card.config, folder / "agent.safetensors", card.hash)


def require_base(path: Path, base_hash: str) -> None:
    """Check that an agent type aligned to a base may be written into a folder: one without a base, or with this base.

    Raises:
        AllianceError: the folder has another base.
    """
    if (path / "base").exists() and (found := read_base_card(path).hash) != base_hash:
        raise AllianceError(
            f"{path} holds the base {found[:12]}, but the agent type is aligned to the base {base_hash[:12]}; "
            "write it to the alliance of its own base, or to a new folder"
        )


def save_base(path: Path, model: BaseModel, training: TrainingRecord, half: bool = False) -> str:
    """Write the base into `path`/base and return its content hash; `half` stores kernels in float16, which halves their bytes."""
    state = state_to_store(model, half)
    content_hash = hash_content(state, model.config)
    save_part(path / "base", "base", state, BaseCard(hash=content_hash, config=model.config, training=training))
    return content_hash


def save_agent(
    path: Path,
    name: str,
    model: AgentModel,
    base_hash: str,
    training: TrainingRecord,
    half: bool = False,
    trust: float = 1.0,
    statistics: MapStatistics | None = None,
) -> None:
    """Write an agent type into `path`/`name`; `half` as in `save_base`, `trust` and `statistics` as in `AgentCard`.

    Raises:
        AllianceError: `path` holds another base than the one of `base_hash`, or the name is that of another part of an alliance;
            nothing is written.
    """
    require_type_name(name)
    require_base(path, base_hash)
    state = state_to_store(model, half)
    content_hash = hash_content(state, model.config)
    card = AgentCard(
        hash=content_hash, base_hash=base_hash, config=model.config, training=training, trust=trust, statistics=statistics
    )
    save_part(path / name, "agent", state, card)
