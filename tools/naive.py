"""The plain form of each stage, which lies beside the project for its tests and benches and is not installed with it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "naive"


def naive(name: str) -> ModuleType | None:
    """The module `tests/naive/NAME.py`; None where the project was installed without it."""
    file = FOLDER / f"{name}.py"
    known = f"heal_naive_{name}"
    spec = importlib.util.spec_from_file_location(known, file) if file.exists() else None
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name.
    sys.modules[known] = module
    spec.loader.exec_module(module)
    return module
