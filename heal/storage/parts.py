"""A part of an alliance on disk: weights and the record beside them, written whole, and read with a check of their hash."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heal.atomic_write import folder_made_whole, replacing
from heal.config import ConfigError, build_config, load_config, save_config, to_plain
from heal.errors import UserError


class AllianceError(UserError):
    """A folder that is no alliance, or whose parts do not belong together; the message names the file and the remedy."""


OTHER_PARTS = ("base", "compressor")
"""Folders of an alliance that hold no agent type."""


def require_type_name(name: str) -> None:
    """Check that a folder of an alliance may have an agent type's name; AllianceError if not."""
    if name in ("", *OTHER_PARTS) or name.startswith("."):
        raise AllianceError(f"an agent type cannot be called {name!r}: {' and '.join(OTHER_PARTS)} are other parts of an alliance")


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


def read_card(cls: type[Any], path: Path) -> Any:
    """Read a record as a config class; AllianceError, on one line, if the record cannot be read."""
    try:
        return load_config(cls, path)
    except ConfigError as error:
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


def state_to_store(model: nn.Module, half: bool) -> dict[str, Tensor]:
    """Return the state to write. `half` applies to kernels only: statistics of batch norms may exceed float16's range."""
    require_storable(model)
    # Safetensors refuses tensors that share memory, such as the weights of two layers that are one parameter.
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    return {name: tensor.half() if half and tensor.ndim > 1 else tensor for name, tensor in state.items()}


def save_part(folder: Path, stem: str, state: Mapping[str, Tensor], card: Any) -> None:
    """Write weights and record whole: an error, such as that of a full disk, leaves the old ones."""
    from safetensors.torch import save_file

    # Both files are complete before either of them replaces an old one; the weights, which are large, go first.
    with replacing(folder / f"{stem}.yaml") as record, replacing(folder / f"{stem}.safetensors") as weights:
        save_file(dict(state), weights)
        save_config(card, record)


def load_weights(model: nn.Module, settings: Any, path: Path, expected_hash: str) -> None:
    """Read weights into a model with these settings, and set it to evaluate, without gradients.

    Raises:
        AllianceError: the file cannot be read, has another content hash, or its weights are not finite or do not fit the model.
    """
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


def copy_part(source: Path, path: Path, name: str) -> None:
    """Copy the folder `name` of the alliance `source`, such as "base", into the folder `path`, whole, unless `path` has it."""
    if (path / name).exists():
        return
    with folder_made_whole(path / name) as temporary:
        shutil.copytree(source / name, temporary)


@cache
def warn_once(text: str) -> None:
    """Log a warning, but the same text only once: a command may open an alliance several times."""
    logging.getLogger(__name__).warning(text)
