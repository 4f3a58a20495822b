"""The plain form of each stage, which lies beside the project for its tests and benches and is not installed with it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "naive"
PACKAGE = "heal_naive"


def naive(name: str) -> ModuleType | None:
    """The module `tests/naive/NAME.py`; None where the project was installed without it."""
    if not (FOLDER / f"{name}.py").exists():
        return None
    # A package of its own name, so that no other `tests` comes in between.
    package = sys.modules.setdefault(PACKAGE, ModuleType(PACKAGE))
    package.__path__ = [str(FOLDER)]
    return importlib.import_module(f"{PACKAGE}.{name}")
