"""Read a checkpoint file of torch without running code that it may contain, and say what is wrong with a damaged one."""

from __future__ import annotations

import argparse
import pathlib
import pickle
import re
import zipfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from heal.config import ConfigError

_LFS_POINTER = b"version https://git-lfs"
_HEAD_BYTES = 64


def read_checkpoint(path: Path) -> Any:
    """Return the content of a checkpoint: tensors, numbers, texts and containers of them.

    Raises:
        ConfigError: the file is damaged, is no checkpoint, or holds objects that only running code can make.
        OSError: the file cannot be opened.
    """
    import torch

    _require_checkpoint(path)
    try:
        with _plain_objects():
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found is None:
            raise ConfigError(f"{path}: damaged, or no checkpoint of torch; copy or download it again") from error
        raise ConfigError(
            f"{path}: not a file of weights alone: it holds an object of {found[1]}, and making it could run code; "
            "store the state dict alone"
        ) from error
    except Exception as error:  # a damaged file ends in an error of any class
        lines = str(error).splitlines() or [""]
        raise ConfigError(
            f"{path}: damaged, or no checkpoint of torch ({type(error).__name__}: {lines[0][:120]}); copy or download it again"
        ) from error


def _require_checkpoint(path: Path) -> None:
    """Raise ConfigError for a file whose first bytes and end show that it is no whole checkpoint."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        raise ConfigError(f"{path}: the file is empty; copy or download it again")
    if head.startswith(_LFS_POINTER):
        raise ConfigError(f"{path}: a pointer of Git LFS, not the checkpoint itself; fetch the file with `git lfs pull`")
    if head.startswith(b"PK") and not zipfile.is_zipfile(path):
        raise ConfigError(
            f"{path}: the file is cut, its end behind {path.stat().st_size:,} bytes is missing; copy or download it again"
        )
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head):
        raise ConfigError(f"{path}: text, not a checkpoint; it begins with {head[:40].decode()!r}")


def _plain_objects() -> AbstractContextManager[Any]:
    """Allow the harmless objects that training loops store beside the weights: options, paths, and numbers of NumPy."""
    import numpy as np
    import torch

    if not hasattr(torch.serialization, "safe_globals"):
        return nullcontext()
    number = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")]
    return torch.serialization.safe_globals([argparse.Namespace, pathlib.PosixPath, np.dtype, number, *kinds])
