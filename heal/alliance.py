"""An alliance on disk: a base and the agent types aligned to it, each in a folder with its weights and a record.

    alliance/
      base/  base.safetensors   base.yaml     configuration, training record, content hash
      m1/    agent.safetensors  agent.yaml    the same, and the hash of the base it is aligned to

This is the one module of `heal` that touches the disk. Opening checks every hash; weights are safetensors, so nothing is ever
unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heal.agent_model import AgentConfig, AgentModel
from heal.base_model import BaseConfig, BaseModel
from heal.config import ConfigError, build_config, config, load_config, save_config, to_plain
from heal.fusion.pyramid import PyramidFusion
from heal.grid import BevGrid, Range
from heal.layers.inference import for_inference


class AllianceError(ValueError):
    """A folder that is no alliance, or one whose parts do not belong together; the message names the file and what to do."""


@config
class TrainingRecord:
    """Where weights come from.

    Attributes:
        data: name of the data set.
        scenes: number of training scenes.
        epochs: times each of them was seen.
        seconds: how long it took.
        seed: of the run.
        initial: hash of the base it started from, empty when it started from nothing.
        agent_types: the types that a base was trained with.
    """

    data: str = ""
    scenes: int = 0
    epochs: int = 0
    seconds: float = 0.0
    seed: int = 0
    initial: str = ""
    agent_types: tuple[str, ...] = ()


@config
class BaseCard:
    """What stands in base.yaml."""

    hash: str
    config: BaseConfig
    training: TrainingRecord = TrainingRecord()


@config
class AgentCard:
    """What stands in agent.yaml; `base_hash` names the base that the type is aligned to."""

    hash: str
    base_hash: str
    config: AgentConfig
    training: TrainingRecord = TrainingRecord()


class Alliance:
    """An opened alliance. Models are on the CPU in eval mode; agent types are loaded when they are first asked for."""

    def __init__(self, path: Path, card: BaseCard, base: BaseModel, fast: bool = False) -> None:
        """Hold what `load_alliance` has read and checked; `fast`: agent types are to be as `for_inference` makes them."""
        self.path, self.card, self.base, self._fast = path, card, base, fast
        self._agents: dict[str, AgentModel] = {}

    def for_inference(self) -> Alliance:
        """The alliance as it runs fastest (`heal.layers.inference`); its networks can no longer be trained or saved."""
        return Alliance(self.path, self.card, for_inference(self.base), fast=True)

    @property
    def base_hash(self) -> str:
        """Content hash of the base."""
        return self.card.hash

    @property
    def trunk(self) -> PyramidFusion:
        """The part of the base that agents compute too, for messages and for telling foreground."""
        return self.base.pyramid_backbone

    @property
    def grid(self) -> BevGrid:
        """The grid that all its agents' feature maps lie on."""
        return self.base.config.grid

    @property
    def agent_names(self) -> tuple[str, ...]:
        """The agent types in the folder, in alphabetical order."""
        return tuple(sorted(path.parent.name for path in self.path.glob("*/agent.yaml")))

    def agent_card(self, name: str) -> AgentCard:
        """Configuration and record of one type; AllianceError if it is missing or aligned to another base."""
        if name not in self.agent_names:
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
        """The model of one type."""
        if name not in self._agents:
            card = self.agent_card(name)
            model = AgentModel(card.config, self.grid)
            _load_weights(model, card.config, self.path / name / "agent.safetensors", card.hash)
            self._agents[name] = for_inference(model) if self._fast else model
        return self._agents[name]


def load_alliance(path: Path | str, range_m: Range | None = None) -> Alliance:
    """Open an alliance folder.

    Args:
        path: the folder.
        range_m: run it over this range instead of the one it was trained on: the networks are convolutions, their cells stay as
            they are. x_min, y_min, z_min, x_max, y_max, z_max.

    Raises:
        AllianceError: the folder, a file or a hash is not as it should be.
    """
    path = Path(path)
    card_path = path / "base" / "base.yaml"
    if not card_path.is_file():
        raise AllianceError(f"{path} is not an alliance: {card_path} is missing; `heal train base` makes one")
    card = _read_card(BaseCard, card_path)
    base = BaseModel(card.config if range_m is None else replace(card.config, grid=replace(card.config.grid, range_m=range_m)))
    _load_weights(base, card.config, path / "base" / "base.safetensors", card.hash)
    alliance = Alliance(path, card, base)
    for name in alliance.agent_names:
        alliance.agent_card(name)
    return alliance


def save_base(path: Path, model: BaseModel, training: TrainingRecord, half: bool = False) -> str:
    """Write the base into `path`/base and return its content hash; `half` stores kernels in float16, in half the bytes."""
    state = _stored(model, half)
    content_hash = hash_content(state, model.config)
    _save(path / "base", "base", state, BaseCard(hash=content_hash, config=model.config, training=training))
    return content_hash


def save_agent(path: Path, name: str, model: AgentModel, base_hash: str, training: TrainingRecord, half: bool = False) -> None:
    """Write an agent type into `path`/`name`; `half` as in `save_base`."""
    state = _stored(model, half)
    content_hash = hash_content(state, model.config)
    card = AgentCard(hash=content_hash, base_hash=base_hash, config=model.config, training=training)
    _save(path / name, "agent", state, card)


def hash_content(state: Mapping[str, Tensor], settings: Any) -> str:
    """SHA-256 over the configuration and every tensor's name, type, shape and bytes."""
    # As it is after reading: a 1 that was given for a float is a 1.0 then.
    as_read = build_config(type(settings), to_plain(settings))
    digest = hashlib.sha256(json.dumps(to_plain(as_read), sort_keys=True).encode())
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read_card(cls: type[Any], path: Path) -> Any:
    try:
        return load_config(cls, path)
    except ConfigError as error:
        raise AllianceError(str(error)) from error


def _stored(model: nn.Module, half: bool) -> dict[str, Tensor]:
    """The state as it is written. Only kernels are halved: statistics of batch norms may leave float16's range."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    return {name: tensor.half() if half and tensor.ndim > 1 else tensor for name, tensor in state.items()}


def _save(folder: Path, stem: str, state: Mapping[str, Tensor], card: BaseCard | AgentCard) -> None:
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(state), folder / f"{stem}.safetensors")
    save_config(card, folder / f"{stem}.yaml")


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
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise AllianceError(f"{path}: the weights do not fit the configuration beside them: {error}") from error
    model.eval().requires_grad_(False)
