"""Read YAML as plain numbers, text, lists and mappings: any bytes give a value or a YAMLError, and nothing is called by its name.

PyYAML's safe loader is not enough. It raises errors of many kinds for values such as the date 2024-13-45, and by aliases a text of
a few lines can stand for billions of values. Here such a text is refused before anything is made of it. The numpy values that
`yaml.dump` writes have tags that ask the reader to call a function of numpy. Here each of the few known tags has a constructor
that makes the value from its bytes. Every other tag of Python stays unknown to the safe loader, which refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from yaml.nodes import Node

_PYTHON, _YAML = "tag:yaml.org,2002:python/", "tag:yaml.org,2002:"
# The module has changed its name with numpy 2.
_MODULES = ("numpy._core.multiarray", "numpy.core.multiarray")
_PLAIN_DTYPE = re.compile(r"[biufcSU]\d+")
_TIME_DTYPE = re.compile(r"[mM]8")
_NDARRAY = object()  # stands for the class numpy.ndarray
# 1e-10 is a number; YAML 1.1 reads it as text.
_EXPONENT = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
_MOST_DIGITS = 400  # of a number; no float has more
MOST_REPEATED = 100_000
"""How many values the aliases of a text may stand for together; those of a frame of OPV2V stand for some hundred."""

Build = Callable[[Sequence[Any], Any], Any]


def read_safely(text: bytes | str) -> Any:
    """Return the value of a YAML text, numpy values in it as plain ones.

    Raises:
        yaml.YAMLError: the text is not valid YAML, has a tag that is not known or a value that cannot be, or its aliases stand for
            too many values.
    """
    from yaml import YAMLError

    try:
        loader = _loader()(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return None
            # Without an asterisk there is no alias, and the look at every node is saved.
            if "*" in text if isinstance(text, str) else b"*" in text:
                require_bounded(root, _children)
            return loader.construct_document(root)
        finally:
            loader.dispose()
    except YAMLError:
        raise
    except RecursionError as error:
        raise YAMLError("its values are nested too deeply") from error
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise YAMLError(f"a value cannot be read: {error}") from error


@cache
def _loader() -> Any:
    """Return LibYAML's fast safe loader if it is installed, with constructors for numpy values and bounds on numbers."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        pass

    for name in ("int", "float"):
        Loader.add_constructor(f"{_YAML}{name}", _bounded(Loader.yaml_constructors[f"{_YAML}{name}"]))
    Loader.add_implicit_resolver(f"{_YAML}float", _EXPONENT, list("-+0123456789."))
    _add_numpy_constructors(Loader)
    return Loader


def _bounded(construct: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return a constructor of numbers that refuses those of too many digits: numbers to the base 60 take quadratic time."""

    def construct_number(loader: Any, node: Any) -> Any:
        if len(node.value) > _MOST_DIGITS:
            raise ValueError(f"a number of {len(node.value)} characters, allowed are {_MOST_DIGITS}")
        return construct(loader, node)

    return construct_number


def require_bounded(root: Any, children: Callable[[Any], Iterable[Any]]) -> None:
    """Check that what is reached from a value on several ways stands for few values, however it is walked through.

    Args:
        root: the value.
        children: returns the parts of a value that count.

    Raises:
        ValueError: aliases stand for more than `MOST_REPEATED` values together, or an alias is within its own value.
    """
    sizes: dict[int, int] = {}  # by the id of a node: the values that it stands for, aliases replaced by theirs
    begun: set[int] = set()
    waiting = [(root, False)]
    while waiting:
        node, is_done = waiting.pop()
        if is_done:
            sizes[id(node)] = 1 + sum(sizes[id(child)] for child in children(node))
            begun.remove(id(node))
            if sizes[id(node)] - len(sizes) > MOST_REPEATED:
                raise ValueError(f"its aliases stand for {sizes[id(node)]} values, allowed are {MOST_REPEATED}")
        elif id(node) in begun:
            raise ValueError("an alias stands for a value that it is part of")
        elif id(node) not in sizes:
            begun.add(id(node))
            waiting += [(node, True), *((child, False) for child in children(node))]


def _children(node: Node) -> Iterator[Node]:
    """Yield the keys and values of a mapping, or the items of a sequence; a scalar has none."""
    for item in node.value if isinstance(node.value, list) else ():
        yield from item if isinstance(item, tuple) else (item,)


def _add_numpy_constructors(loader: type[Any]) -> None:
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
