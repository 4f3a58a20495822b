"""The device of a command's networks, checked before anything waits for it."""

from __future__ import annotations

import re

import torch

from heal.errors import UserError


def choose_device(name: str) -> torch.device:
    """Return the device of a name.

    Args:
        name: "cpu", "cuda" or "cuda:1" and so on, or "auto" for a GPU if there is one.

    Raises:
        UserError: the name is none of these, or there is no such GPU; the message says what there is.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    known = re.fullmatch(r"cpu|cuda(?::(\d+))?", name)
    if known is None:
        raise UserError(f"--device {name}: expected cpu, cuda, or auto for a GPU if there is one")
    if name.startswith("cuda") and int(known[1] or 0) >= gpu_count():
        raise UserError(f"--device {name}: torch finds {_gpus_text()}; use --device cpu, or auto for a GPU if there is one")
    return torch.device(name)


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


def _gpus_text() -> str:
    """Return how many GPUs there are; for none also whether torch itself was built without CUDA."""
    count = gpu_count()
    if count:
        return f"{count} {'GPU' if count == 1 else 'GPUs'}"
    return "no GPU" if torch.version.cuda else f"no GPU (torch {torch.__version__} is a build for CPUs)"
