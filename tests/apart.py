"""A device for tests that computes on the CPU and yet is another: its tensors and the CPU's do not go together, as on a GPU.

Where there is no GPU, this finds what would stop a program on one: tensors that were made, or left behind, on the wrong side. It is
PyTorch's place for devices from outside ("PrivateUse1"), once for a process and before its first gradient; so use it in a process
of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "apart"
_ATEN = torch.ops.aten
# Of these, the index may be on the CPU.
_INDEXING = (_ATEN.index.Tensor, _ATEN.index_put_.default, _ATEN._index_put_impl_.default)
# What autocast does in half precision on a GPU, as far as networks here use it.
_IN_HALF = ("conv2d", "conv_transpose2d.input", "linear", "mm", "bmm", "addmm", "matmul")
_registered: list[torch.library.Library] = []


class ApartTensor(Tensor):
    """A tensor on the device; `inner` is what it holds."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> ApartTensor:
        """Of a tensor of the CPU."""
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        made = Tensor._make_wrapper_subclass(cls, inner.shape, device=torch.device(NAME, 0), **layout)
        made.inner = inner
        return made

    def __repr__(self) -> str:
        """What it holds."""
        return f"ApartTensor({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """As within the mode, from threads that are not in it."""
        with _Apart():
            return function(*args, **(kwargs or {}))


class _Apart(TorchDispatchMode):
    """Computes what is asked of the device."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [tensor for tensor in given if isinstance(tensor, ApartTensor)]
        _require_one_side(function, args, given)
        if there and torch.Tag.inplace_view in function.tags:
            with no_dispatch():
                function(*args, **kwargs)  # the shape of the outer one
        device = kwargs.get("device")
        goes_there = bool(there) if device is None else torch.device(device).type == NAME
        if device is not None:
            kwargs["device"] = torch.device("cpu")
        result = function(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        if function is _ATEN.copy_.default:
            return args[0]
        known = {id(tensor.inner): tensor for tensor in there}
        return tree_map(lambda leaf: _outer(leaf, known, goes_there), result)


def _require_one_side(function: Any, args: Any, given: list[Tensor]) -> None:
    """Raise RuntimeError for tensors of both sides, unless those of the CPU are mere numbers."""
    sides = {isinstance(tensor, ApartTensor) for tensor in given if tensor.dim() or isinstance(tensor, ApartTensor)}
    allowed = function is _ATEN.copy_.default or (function in _INDEXING and isinstance(args[0], ApartTensor))
    if len(sides) == 2 and not allowed:
        shapes = ", ".join(f"{tuple(tensor.shape)} on {tensor.device}" for tensor in given)
        raise RuntimeError(f"{function}: expected all tensors on one device, got {shapes}")


def _inner(leaf: Any) -> Any:
    return leaf.inner if isinstance(leaf, ApartTensor) else leaf


def _outer(leaf: Any, known: dict[int, ApartTensor], goes_there: bool) -> Any:
    if not isinstance(leaf, Tensor) or isinstance(leaf, ApartTensor):
        return leaf
    if id(leaf) in known:
        return known[id(leaf)]
    return ApartTensor(leaf) if goes_there else leaf


class _Backend(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        """It draws from the CPU's generator."""


def _in_half(operation: Any) -> Callable[..., Any]:
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def run(*args: Any, **kwargs: Any) -> Any:
        half = torch.get_autocast_dtype(NAME)
        with torch._C._ExcludeDispatchKeyGuard(keys):
            return operation(*[_lowered(arg, half) for arg in args], **kwargs)

    return run


def _lowered(arg: Any, half: torch.dtype) -> Any:
    return arg.to(half) if isinstance(arg, Tensor) and arg.dtype == torch.float32 else arg


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    _inner(target).copy_(_inner(source))
    return target


def _empty_strided(size: Any, stride: Any, dtype: Any = None, *_: Any, **__: Any) -> Tensor:
    return ApartTensor(torch.empty_strided(size, stride, dtype=dtype))


def register() -> None:
    """Make the device known, for the rest of the process."""
    others, aten = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    _registered.extend([others, aten])
    others.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for name in _IN_HALF:
        packet, _, overload = name.partition(".")
        aten.impl(name, _in_half(getattr(getattr(_ATEN, packet), overload or "default")), "AutocastPrivateUse1")
    # Some ways to make a tensor pass the mode by.
    aten.impl("empty_strided", _empty_strided, "PrivateUse1")
    aten.impl("_copy_from", _copy_from, "PrivateUse1")
    _setup_privateuseone_for_python_backend(NAME, _Backend())
    torch.__future__.set_overwrite_module_params_on_conversion(True)


@contextmanager
def apart() -> Iterator[torch.device]:
    """The device, for as long as this lasts."""
    with _Apart():
        yield torch.device(NAME, 0)
