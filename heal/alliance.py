"""An alliance on disk: a base and the agent types aligned to it, each in a folder with its weights and a record.

    alliance/
      base/  base.safetensors   base.yaml     configuration, training record, content hash
      m1/    agent.safetensors  agent.yaml    the same, and the hash of the base that the type is aligned to

Opening an alliance checks every hash. An agent type is left out with a warning if it does not belong to the base, if its record
cannot be read, or if its encoder is not installed. Weights are safetensors, so no pickle is ever loaded. Apart from `heal.config`,
`heal.plugins` and `heal.atomic_write`, no other module of `heal` itself reads or writes files.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heal.agent_model import AgentConfig, AgentModel
from heal.atomic_write import replacing
from heal.base_model import BaseConfig, BaseModel
from heal.config import ConfigError, build_config, config, load_config, save_config, to_plain
from heal.errors import UserError
from heal.fusion.pyramid import PyramidFusion
from heal.grid import BevGrid, Range
from heal.layers.inference import for_inference


class AllianceError(UserError):
    """A folder that is no alliance, or whose parts do not belong together; the message names the file and the remedy."""


@config
class ValidationRecord:
    """The validation of weights after an epoch of their training.

    Attributes:
        split: name of the validation split.
        scenes: number of its scenes.
        epoch: number of epochs, from 1, after which the weights were validated.
        loss: detection loss, the mean over the scenes.
        ap: average precision by IoU threshold, such as "0.5"; None if there is no object.
    """

    split: str
    scenes: int
    epoch: int
    loss: float
    ap: Mapping[str, float | None]


@config
class TrainingRecord:
    """The training that weights come from.

    Attributes:
        data: name of the data set.
        scenes: number of training scenes.
        epochs: number of passes over the training scenes.
        seconds: duration of the training.
        seed: seed of the training.
        initial: hash of the base that the training started from; empty for random weights.
        agent_types: the agent types that a base was trained with.
        validation: the validation by which these weights are the best of their training; None if they are those of its end.
    """

    data: str = ""
    scenes: int = 0
    epochs: int = 0
    seconds: float = 0.0
    seed: int = 0
    initial: str = ""
    agent_types: tuple[str, ...] = ()
    validation: ValidationRecord | None = None


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
    """

    hash: str
    base_hash: str
    config: AgentConfig
    training: TrainingRecord = TrainingRecord()
    trust: float = 1.0

    def __post_init__(self) -> None:
        """Raise ConfigError for a trust out of range."""
        if not 0 < self.trust <= 1:
            raise ConfigError(f"trust: expected more than 0 and at most 1, got {self.trust}")


class Alliance:
    """An open alliance. Models are on the CPU in eval mode; an agent type is loaded on its first use.

    Attributes:
        foreign: agent types in the folder that were left out when the alliance was opened -> the reason.
    """

    def __init__(
        self, path: Path, card: BaseCard, base: BaseModel, fast: bool = False, foreign: Mapping[str, str] | None = None
    ) -> None:
        """Take the base that `load_alliance` has read; `fast` has agent types made fast by `heal.layers.inference` when loaded."""
        self.path, self.card, self.base, self._fast = path, card, base, fast
        self.foreign: dict[str, str] = dict(foreign or {})
        self._agents: dict[str, AgentModel] = {}

    def for_inference(self) -> Alliance:
        """Return the alliance with networks for fast inference (`heal.layers.inference`), which cannot be trained or saved."""
        return Alliance(self.path, self.card, for_inference(self.base), fast=True, foreign=self.foreign)

    @property
    def base_hash(self) -> str:
        """Content hash of the base."""
        return self.card.hash

    @property
    def trunk(self) -> PyramidFusion:
        """The part of the base that agents run too: for messages of the pyramid split, and for foreground scores."""
        return self.base.pyramid_backbone

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
        return tuple(name for name in self._folders() if name not in self.foreign)

    def agent_card(self, name: str) -> AgentCard:
        """Read the card of an agent type; AllianceError if the type is missing or cannot be used with this base."""
        if name not in self._folders():
            raise AllianceError(f"{self.path}: no agent type {name!r}; there are {', '.join(self.agent_names) or 'none'}")
        card: AgentCard = _read_card(AgentCard, self.path / name / "agent.yaml")
        if card.base_hash != self.base_hash:
            raise AllianceError(
                f"{self.path / name}: {name} is aligned to the base {card.base_hash[:12]}, "
                f"but the base here is {self.base_hash[:12]}; "
                "put it beside its own base, or align it to this one"
            )
        return card

    def agent(self, name: str) -> AgentModel:
        """Return the network of an agent type; it is loaded on the first call."""
        if name not in self._agents:
            card = self.agent_card(name)
            model = AgentModel(card.config, self.sensed_grid)
            _load_weights(model, card.config, self.path / name / "agent.safetensors", card.hash)
            self._agents[name] = for_inference(model) if self._fast else model
        return self._agents[name]

    def trust_of(self, name: str) -> float:
        """Return the trust in an agent type (see `AgentCard`)."""
        return self.agent_card(name).trust

    def leave_out_foreign(self, warn: bool = True) -> None:
        """Note the types that cannot be used, and log a warning for each if `warn`."""
        self.foreign = {name: problem for name in self._folders() if (problem := self._problem_of(name))}
        for name, problem in self.foreign.items() if warn else ():
            _warn_once(f"agent type {name} is left out: {problem}")

    def _problem_of(self, name: str) -> str:
        """Return why a type cannot be used, from its record alone; empty if it can."""
        try:
            self.agent_card(name)
        except AllianceError as error:
            return str(error)
        return ""

    def _folders(self) -> list[str]:
        """Return the names of all folders with an agent type, in alphabetical order."""
        return sorted(path.parent.name for path in self.path.glob("*/agent.yaml"))


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
    base = BaseModel(card.config if range_m is None else replace(card.config, grid=replace(card.config.grid, range_m=range_m)))
    _load_weights(base, card.config, path / "base" / "base.safetensors", card.hash)
    return Alliance(path, card, base)


@cache
def _warn_once(text: str) -> None:
    """Log a warning, but the same text only once: a command may open an alliance several times."""
    logging.getLogger(__name__).warning(text)


def read_base_card(path: Path) -> BaseCard:
    """Read the card of the base of an alliance; AllianceError if the folder is no alliance or the card is unreadable."""
    card_path = path / "base" / "base.yaml"
    if path.is_file():
        raise AllianceError(f"{path} is a file, expected an alliance folder; `heal alliance unpack` makes one of an archive")
    if not card_path.is_file():
        raise AllianceError(f"{path} is not an alliance: {card_path} is missing; `heal train base` makes one")
    card: BaseCard = _read_card(BaseCard, card_path)
    return card


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
    state = _state_to_store(model, half)
    content_hash = hash_content(state, model.config)
    _save(path / "base", "base", state, BaseCard(hash=content_hash, config=model.config, training=training))
    return content_hash


def copy_base(source: Path, path: Path) -> None:
    """Copy the base of the alliance `source` into the folder `path`, whole, unless `path` has a base."""
    if (path / "base").exists():
        return
    temporary = path / f".base.{os.getpid()}.unfinished"
    try:
        shutil.copytree(source / "base", temporary)
        temporary.replace(path / "base")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def save_agent(
    path: Path,
    name: str,
    model: AgentModel,
    base_hash: str,
    training: TrainingRecord,
    half: bool = False,
    trust: float = 1.0,
) -> None:
    """Write an agent type into `path`/`name`; `half` as in `save_base`, `trust` as in `AgentCard`.

    Raises:
        AllianceError: `path` holds another base than the one of `base_hash`; nothing is written.
    """
    require_base(path, base_hash)
    state = _state_to_store(model, half)
    content_hash = hash_content(state, model.config)
    card = AgentCard(hash=content_hash, base_hash=base_hash, config=model.config, training=training, trust=trust)
    _save(path / name, "agent", state, card)


def hash_content(state: Mapping[str, Tensor], settings: Any) -> str:
    """Return the SHA-256 over the configuration and every tensor's name, type, shape and bytes."""
    # Build the configuration as if read from a file: an int given for a float becomes a float.
    as_read = build_config(type(settings), to_plain(settings))
    digest = hashlib.sha256(json.dumps(to_plain(as_read, hashed=True), sort_keys=True).encode())
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read_card(cls: type[Any], path: Path) -> Any:
    try:
        return load_config(cls, path)
    except ConfigError as error:
        # On one line, as a reason in tables and logs.
        raise AllianceError(str(error).replace(":\n  ", ": ").replace("\n  ", "; ")) from error
    except (OSError, UnicodeDecodeError) as error:
        raise AllianceError(f"{path}: the record cannot be read: {error}") from error


def require_storable(model: nn.Module) -> None:
    """Check that every tensor of a model can be stored and read back.

    Weights that several layers share are fine: each name gets a copy. A tensor made by `expand`, whose elements share memory, is
    not: it cannot be filled again with the stored values.

    Raises:
        AllianceError: naming the tensors that cannot be read back.
    """
    names = [name for name, tensor in model.state_dict().items() if _elements_share_memory(tensor)]
    if names:
        raise AllianceError(
            f"the elements of {', '.join(names)} share memory, as after `expand`, so stored weights cannot be read back into them; "
            "make each a tensor of its own with `.clone()`"
        )


def _elements_share_memory(tensor: Tensor) -> bool:
    """Return whether one place in memory holds several elements of a tensor."""
    return any(size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def _state_to_store(model: nn.Module, half: bool) -> dict[str, Tensor]:
    """Return the state to write. `half` applies to kernels only: statistics of batch norms may exceed float16's range."""
    require_storable(model)
    # Safetensors refuses tensors that share memory, such as the weights of two layers that are one parameter.
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    return {name: tensor.half() if half and tensor.ndim > 1 else tensor for name, tensor in state.items()}


def _save(folder: Path, stem: str, state: Mapping[str, Tensor], card: BaseCard | AgentCard) -> None:
    """Write weights and record whole: an error, such as that of a full disk, leaves the old ones."""
    from safetensors.torch import save_file

    # Both files are complete before either of them replaces an old one; the weights, which are large, go first.
    with replacing(folder / f"{stem}.yaml") as record, replacing(folder / f"{stem}.safetensors") as weights:
        save_file(dict(state), weights)
        save_config(card, record)


def _load_weights(model: nn.Module, settings: Any, path: Path, expected_hash: str) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise AllianceError(f"{path}: the weights cannot be read: {error}") from error
    found = hash_content(state, settings)
    if found != expected_hash:
        raise AllianceError(
            f"{path}: its content hash is {found[:12]}, but the record beside it says {expected_hash[:12]}; "
            "weights and record do not belong together, so copy both again from where they came from"
        )
    wrong = [name for name, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if wrong:
        raise AllianceError(
            f"{path}: {len(wrong)} weights are not finite, first {wrong[0]}, so nothing would be detected; train anew"
        )
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise AllianceError(f"{path}: the weights do not fit the configuration beside them: {error}") from error
    model.eval().requires_grad_(False)
