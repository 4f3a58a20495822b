"""Access to the golden fixtures in $HEAL_GOLDEN or ../shared/golden: recorded results of the reference, unit by unit."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

FOLDER = Path(os.environ.get("HEAL_GOLDEN") or Path(__file__).resolve().parents[3] / "shared" / "golden")


def golden_files(pattern: str) -> list[Path]:
    """Return the fixture files of a unit name or pattern; none if the folder is missing."""
    return sorted(FOLDER.glob(f"{pattern}.npz"))


def golden_units(pattern: str) -> list[Any]:
    """Return parameters for `pytest.mark.parametrize`: one for every file, or one that skips with the reason."""
    files = golden_files(pattern)
    if files:
        return [pytest.param(Fixture(path), id=path.stem, marks=pytest.mark.golden) for path in files]
    reason = f"no golden fixture {pattern} in {FOLDER}; set HEAL_GOLDEN to the folder that has it"
    return [pytest.param(None, id=pattern, marks=[pytest.mark.golden, pytest.mark.skip(reason=reason)])]


@dataclass(frozen=True)
class Fixture:
    """One fixture file: its settings (`meta`), inputs, expected outputs and stored weights."""

    path: Path

    @property
    def arrays(self) -> Any:
        """The file's arrays by name."""
        return np.load(self.path)

    @property
    def meta(self) -> dict[str, Any]:
        """Reference, configuration, tolerance, seeds."""
        values: dict[str, Any] = json.loads(str(self.arrays["meta"]))
        return values

    @property
    def config(self) -> dict[str, Any]:
        """The reference's configuration."""
        values: dict[str, Any] = self.meta["config"]
        return values

    def input(self, name: str) -> npt.NDArray[Any]:
        """Return an input by name."""
        array: npt.NDArray[Any] = self.arrays[f"in/{name}"]
        return array

    def tensor(self, name: str) -> Tensor:
        """Return an input as a tensor."""
        return torch.from_numpy(self.input(name))

    def expected(self, name: str) -> npt.NDArray[Any]:
        """Return an expected output by name."""
        array: npt.NDArray[Any] = self.arrays[f"out/{name}"]
        return array

    def names(self, prefix: str) -> list[str]:
        """Return the names of arrays below a prefix such as "in/" or "out/occ/", without the prefix."""
        return [name[len(prefix) :] for name in self.arrays.files if name.startswith(prefix)]

    def reference_state(self) -> dict[str, Tensor]:
        """Return the recorded network's checkpoint: stored weights, and the recipe's draws for the others."""
        arrays, meta = self.arrays, self.meta
        state = {}
        for key, (shape, kind) in meta["state_dict"].items():
            dtype = getattr(torch, kind.removeprefix("torch."))
            if f"w/{key}" in arrays.files:
                state[key] = torch.from_numpy(arrays[f"w/{key}"]).to(dtype).reshape(shape)
            elif dtype.is_floating_point:
                state[key] = torch.from_numpy(np.asarray(_draw(key, tuple(shape), meta["weight_seed"]))).to(dtype)
            else:
                state[key] = torch.zeros(shape, dtype=dtype)
        return state

    def load_weights(
        self, module: nn.Module, rename: Callable[[str], str] = lambda name: name, stored_statistics: bool = True
    ) -> None:
        """Fill a module: stored weights, and the recipe's draws for the others.

        Args:
            module: to fill.
            rename: maps our names to the fixture's.
            stored_statistics: take the calibrated statistics of batch norms where they are stored, not the recipe's.
        """
        arrays, seed = self.arrays, self.meta["weight_seed"]
        state = module.state_dict()
        for name, tensor in state.items():
            theirs = rename(name)
            stored = f"w/{theirs}" in arrays.files and (stored_statistics or "running_" not in theirs)
            if stored:
                state[name] = torch.from_numpy(arrays[f"w/{theirs}"]).to(tensor.dtype).reshape(tensor.shape)
            elif tensor.is_floating_point():
                state[name] = torch.from_numpy(np.asarray(_draw(theirs, tuple(tensor.shape), seed))).to(tensor.dtype)
        module.load_state_dict(state)


def assert_close(
    found: Tensor | npt.NDArray[Any], expected: npt.NDArray[Any], relative: float = 1e-4, absolute: float = 1e-6
) -> None:
    """Assert max|a - b| <= relative * max|b| + absolute, the rule of all network fixtures."""
    array = found.detach().numpy() if isinstance(found, Tensor) else found
    assert array.shape == expected.shape
    limit = relative * np.abs(expected).max(initial=0.0) + absolute
    assert np.abs(array - expected).max(initial=0.0) <= limit


def _draw(key: str, shape: tuple[int, ...], seed: int) -> npt.NDArray[np.float64] | float:
    """Draw weights by the fixtures' recipe: they depend only on the reference's key, the shape and the seed."""
    random = np.random.RandomState((zlib.crc32(key.encode()) + seed) % 2**32)
    if key.endswith("running_var"):
        return random.uniform(0.5, 1.5, shape)
    if key.endswith("running_mean"):
        return 0.1 * random.standard_normal(shape)
    if key.endswith(("gamma", "gamma_xca", "temperature")):
        return random.uniform(0.1, 0.5, shape)
    if len(shape) <= 1:
        return random.uniform(0.5, 1.5, shape) if key.endswith("weight") else 0.1 * random.standard_normal(shape)
    gain = 0.3 if any(part in key for part in ("single_head_", "cls_head", "dir_head")) else 0.1 if "reg_head" in key else 1.0
    return random.standard_normal(shape) * np.sqrt(1.5 / max(float(np.prod(shape[1:])), 1.0)) * gain
