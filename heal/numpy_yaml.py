"""Read the numpy values and tuples that `yaml.dump` writes, as plain numbers, text and lists; nothing is called by its name.

For numpy values YAML has tags that ask the reader to call a function of numpy. Here each of the few known tags has a constructor
that makes the value from its bytes. Every other tag of Python stays unknown to the safe loader, which refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_PYTHON = "tag:yaml.org,2002:python/"
# The module has changed its name with numpy 2.
_MODULES = ("numpy._core.multiarray", "numpy.core.multiarray")
_PLAIN_DTYPE = re.compile(r"[biufcSU]\d+")
_TIME_DTYPE = re.compile(r"[mM]8")
_NDARRAY = object()  # stands for the class numpy.ndarray

Build = Callable[[Sequence[Any], Any], Any]


def add_numpy_constructors(loader: type[Any]) -> None:
    """Teach a subclass of yaml.SafeLoader or yaml.CSafeLoader the tags of numpy scalars, arrays and dtypes, and of tuples."""
    loader.add_constructor(f"{_PYTHON}tuple", lambda loader, node: tuple(loader.construct_sequence(node, deep=True)))
    loader.add_constructor(f"{_PYTHON}name:numpy.ndarray", lambda loader, node: _NDARRAY)
    loader.add_constructor(f"{_PYTHON}object/apply:numpy.dtype", _constructor(_dtype))
    for module in _MODULES:
        loader.add_constructor(f"{_PYTHON}object/apply:{module}.scalar", _constructor(_scalar))
        loader.add_constructor(f"{_PYTHON}object/apply:{module}._reconstruct", _constructor(_array))


def _constructor(build: Build) -> Callable[[Any, Any], Any]:
    """Return a constructor of PyYAML that calls `build` with the arguments and the state of a node."""
    from yaml import SequenceNode
    from yaml.constructor import ConstructorError

    def construct(loader: Any, node: Any) -> Any:
        if isinstance(node, SequenceNode):
            args, state = loader.construct_sequence(node, deep=True), None
        else:
            parts = loader.construct_mapping(node, deep=True)
            args, state = parts.get("args"), parts.get("state")
        try:
            return build(args, state)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise ConstructorError(None, None, f"not a value of numpy: {error}", node.start_mark) from error

    return construct


def _dtype(args: Sequence[Any], state: Any) -> np.dtype[Any]:
    """Make a dtype of numbers, text or times; ValueError for any other."""
    name = str(args[0])
    if _TIME_DTYPE.fullmatch(name):
        unit = state[8][1][0]
        dtype: np.dtype[Any] = np.dtype(f"{name}[{unit.decode() if isinstance(unit, bytes) else unit}]")
    elif _PLAIN_DTYPE.fullmatch(name):
        dtype = np.dtype(name)
    else:
        raise ValueError(f"expected a type of numbers, text or times, got {name!r}")
    return dtype.newbyteorder(">") if state is not None and state[1] == ">" else dtype


def _scalar(args: Sequence[Any], _: Any) -> Any:
    dtype, content = args
    return _plain(np.frombuffer(_bytes(content), _checked(dtype), count=1))[0]


def _array(args: Sequence[Any], state: Any) -> Any:
    if args[0] is not _NDARRAY:
        raise ValueError("expected an array")
    _, shape, dtype, by_columns, content = state
    values = np.frombuffer(_bytes(content), _checked(dtype)) if content else np.zeros(0, _checked(dtype))
    return _plain(values.reshape(tuple(shape), order="F" if by_columns else "C"))


def _checked(dtype: Any) -> np.dtype[Any]:
    if not isinstance(dtype, np.dtype):
        raise ValueError(f"expected a dtype, got {type(dtype).__name__}")
    return dtype


def _bytes(content: Any) -> bytes:
    """Return the bytes of a value; Python 2 wrote them as text."""
    return content.encode("latin-1") if isinstance(content, str) else bytes(memoryview(content))


def _plain(values: npt.NDArray[Any]) -> Any:
    """Return an array as nested lists of Python's own numbers, text and times."""
    if values.dtype.kind in "fc":
        values = values.astype(np.float64 if values.dtype.kind == "f" else np.complex128)
    return values.tolist() if values.size else []
