"""A part of an alliance on disk: weights and the record beside them, written whole, and read with a check of their hash."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from heal.atomic_write import folder_made_whole, replacing
from heal.config import ConfigError, build_config, load_config, save_config, to_plain
from heal.errors import UserError


class AllianceError(UserError):
    """A folder that is no alliance, or whose parts do not belong together; the message names the file and the remedy."""


Network = TypeVar("Network", bound=nn.Module)

# A ResNet-101, of which an encoder keeps its first stages, has 44.5 million parameters: at first the whole of it is made.
_SPARE_TENSORS, _SPARE_NUMBERS = 1000, 48_000_000

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


def load_network(make: Callable[[], Network], settings: Any, path: Path, expected_hash: str) -> Network:
    """Read weights, and return the network that they belong to, set to evaluate, without gradients.

    The network is made only if the hash is right, and only as large as its weights: settings that someone has written by hand can
    ask for layers that take minutes to make.

    Args:
        make: makes the network, with any weights.
        settings: of the network, which the content hash covers.
        path: the file of the weights.
        expected_hash: content hash of settings and weights.

    Raises:
        AllianceError: the file cannot be read, has another content hash, or its weights are not finite; the network cannot be made,
            or the weights do not fit it.
    """
    state = _read_state(path, settings, expected_hash)
    misfit = f"{path}: the weights do not fit the configuration beside them"
    try:
        with _no_larger_than(state):
            model = make()
        model.load_state_dict(state)
    except (RuntimeError, ValueError, TypeError, ArithmeticError, LookupError, MemoryError) as error:
        raise AllianceError(f"{misfit}: {str(error).strip() or type(error).__name__}") from error
    model.eval().requires_grad_(False)
    return model


def _read_state(path: Path, settings: Any, expected_hash: str) -> dict[str, Tensor]:
    """Read weights of the expected content hash."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
        found = hash_content(state, settings)
        wrong = [name for name, tensor in state.items() if not _is_finite(tensor)]
    except (OSError, SafetensorError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise AllianceError(f"{path}: the weights cannot be read: {error}") from error
    if found != expected_hash:
        raise AllianceError(
            f"{path}: its content hash is {found[:12]}, but the record beside it says {expected_hash[:12]}; "
            "weights and record do not belong together, so copy both again from where they came from"
        )
    if wrong:
        raise AllianceError(
            f"{path}: {len(wrong)} weights are not finite, first {wrong[0]}, so nothing would be detected; train anew"
        )
    return state


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


@contextmanager
def _no_larger_than(state: Mapping[str, Tensor]) -> Iterator[None]:
    """Let the block make a network of about as many parameters as there are weights.

    The limit allows for parts that are made and thrown away again, such as the head of a published image network.

    Raises:
        RuntimeError: the network has many more, or larger ones; raised before these get their first values.
    """
    most = 4 * len(state) + _SPARE_TENSORS, 4 * sum(tensor.numel() for tensor in state.values()) + _SPARE_NUMBERS
    made = [0, 0]

    def count(module: nn.Module, name: str, parameter: Tensor) -> None:
        made[0] += 1
        made[1] += parameter.numel()
        if made[0] > most[0] or made[1] > most[1]:
            raise RuntimeError(f"they hold {len(state)} tensors, the network would have far more or far larger ones")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


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
