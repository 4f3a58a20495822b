"""From the name of a device to the devices that networks compute on, and how exactly a GPU computes float32."""

from __future__ import annotations

import re
from typing import NamedTuple

import torch

from heal.errors import UserError

DEVICE_NAMES = r"auto|cpu|cuda(?::(\d+))?"


def choose_device(name: str) -> torch.device:
    """Return the device of a name.

    Args:
        name: "cpu", "cuda" or "cuda:1" and so on, or "auto" for a GPU if there is one.

    Raises:
        UserError: the name is none of these, or there is no such GPU; the message says what there is.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    known = re.fullmatch(DEVICE_NAMES, name)
    if known is None:
        raise UserError(f"--device {name}: expected cpu, cuda, or auto for a GPU if there is one")
    if name.startswith("cuda") and int(known[1] or 0) >= gpu_count():
        raise UserError(f"--device {name}: torch finds {_gpus_text()}; use --device cpu, or auto for a GPU if there is one")
    return torch.device(name)


def devices_to_share(name: str) -> tuple[str, ...]:
    """Return the devices over which a command divides its work: all GPUs for "cuda" and "auto", else the one of the name.

    Raises:
        UserError: as for `choose_device`.
    """
    chosen = choose_device(name)
    if chosen.type == "cuda" and chosen.index is None:
        return tuple(f"cuda:{i}" for i in range(gpu_count()))
    return (str(chosen),)


def require_gpus(device: torch.device, replicas: int) -> None:
    """Raise UserError if a training on GPUs has more replicas than there are GPUs: the last ones would be waited for for ever."""
    if device.type == "cuda" and replicas > gpu_count():
        raise UserError(
            f"training.replicas={replicas} takes {replicas} GPUs, but torch finds {_gpus_text()}; lower training.replicas, or use "
            "--device cpu"
        )


def gpu_count() -> int:
    """Return the number of GPUs that torch can use."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


class Float32Products(NamedTuple):
    """Whether GPUs round float32 numbers to 10 bits in matrix products and in convolutions, which is several times as fast."""

    rounded_matrices: bool
    rounded_convolutions: bool


EXACT, ROUNDED = Float32Products(False, False), Float32Products(True, True)


def set_float32_products(wanted: Float32Products) -> Float32Products:
    """Choose how GPUs multiply float32 numbers in this process; return what was chosen before. Autocast is not concerned.

    torch's newer settings (`fp32_precision`) are left alone: once they are used, torch.export can no longer read the older ones.
    """
    matrices, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = Float32Products(matrices.allow_tf32, convolutions.allow_tf32)
    matrices.allow_tf32, convolutions.allow_tf32 = wanted
    return before


def _gpus_text() -> str:
    """Return how many GPUs there are; for none also whether torch itself was built without CUDA."""
    count = gpu_count()
    if count:
        return f"{count} {'GPU' if count == 1 else 'GPUs'}"
    return "no GPU" if torch.version.cuda else f"no GPU (torch {torch.__version__} is a build for CPUs)"
