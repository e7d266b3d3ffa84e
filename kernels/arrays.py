"""Arguments of the NumPy kernels: what the compiled module's tensor.cc does for its own.

A kernel takes NumPy arrays, torch tensors and anything else with ``__dlpack__`` in the memory of
the CPU. NumPy has no bfloat16: there it is uint16, the upper half of a float32.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, SupportsIndex, cast

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
AnyArray = npt.NDArray[Any]

F32 = ("float32",)
FLOATS = ("float32", "bfloat16", "float16")
_DTYPES = {
    "float32": np.float32,
    "bfloat16": np.uint16,
    "float16": np.float16,
    "int8": np.int8,
    "uint8": np.uint8,
    "int32": np.int32,
    "int64": np.int64,
}


class Exchangeable(Protocol):
    """An array of any library, on the CPU."""

    def __dlpack__(self, *, stream: Any = None) -> Any:
        """Return a DLPack capsule."""

    def __dlpack_device__(self) -> Any:
        """Return device type and number."""


Array = npt.NDArray[Any] | Exchangeable


@dataclass(frozen=True, slots=True)
class View:
    """An argument as a NumPy array over the same memory, and how its elements are stored."""

    array: AnyArray
    kind: str

    def floats(self) -> FloatArray:
        """Return the elements as float32."""
        return to_float32(self.array, self.kind)

    def write(self, values: npt.NDArray[Any]) -> None:
        """Store float values, rounded to nearest even."""
        self.array[...] = from_float32(values.astype(np.float32), self.kind)


def read(name: str, value: object, kinds: Sequence[str], ndim: int | tuple[int, int]) -> View:
    """Return the argument after checking type and dimensions.

    Raises:
        TypeError: no array, or none of ``kinds``.
        ValueError: another number of dimensions, or not in the memory of the CPU.
    """
    view = _view(name, value)
    if view.kind not in kinds:
        allowed = ", ".join(kinds[:-1]) + " or " + kinds[-1] if len(kinds) > 1 else kinds[0]
        raise TypeError(f"{name} must be {allowed}, got {view.kind}")
    least, most = (ndim, ndim) if isinstance(ndim, int) else ndim
    if not least <= view.array.ndim <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise ValueError(f"{name} must have {wanted} dimensions, got {view.array.ndim}")
    return view


def write(name: str, value: object, kinds: Sequence[str], ndim: int | tuple[int, int]) -> View:
    """Return an argument that the kernel changes; as ``read``, and refuses what is read-only."""
    view = read(name, value, kinds, ndim)
    array = view.array
    if not array.flags.writeable:
        raise ValueError(f"{name} is read-only")
    if array.size and array.shape[-1] > 1 and array.strides[-1] != array.itemsize:
        raise ValueError(f"{name} must be aligned and contiguous along its last axis")
    if array.size and not array.flags.aligned:
        raise ValueError(f"{name} must be aligned and contiguous along its last axis")
    return view


def output(name: str, value: object, kind: str, shape: tuple[int, ...]) -> tuple[View, AnyArray]:
    """Return where to write, and what to give back: ``value`` as given, or a new array for None."""
    if value is None:
        fresh = np.empty(shape, _DTYPES[kind])
        return View(fresh, kind), fresh
    view = write(name, value, (kind,), (1, 4))
    require_shape(name, view.array, shape)
    return view, cast(AnyArray, value)


def require_shape(name: str, array: AnyArray, shape: tuple[int, ...]) -> None:
    """Refuse another shape."""
    if array.shape != shape:
        wanted, got = (", ".join(map(str, s)) for s in (shape, array.shape))
        raise ValueError(f"{name} must have shape ({wanted}), got ({got})")


def require_apart(name: str, a: View, other: str, b: View, *, same_allowed: bool = False) -> None:
    """Refuse memory in common; with ``same_allowed`` the very same array is fine."""
    if not np.may_share_memory(a.array, b.array):
        return
    same = (
        a.array.__array_interface__["data"] == b.array.__array_interface__["data"]
        and a.array.strides == b.array.strides
        and a.kind == b.kind
    )
    if not (same_allowed and same):
        raise ValueError(f"{name} and {other} share memory")


def require_columns(name: str, array: AnyArray) -> None:
    """Refuse rows without elements."""
    if array.shape[-1] == 0:
        raise ValueError(f"{name} must have rows of at least 1 element, got 0")


def integer(name: str, value: object) -> int:
    """Return an integer argument; refuses booleans and what is no integer."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    return operator.index(value)


def to_float32(array: AnyArray, kind: str) -> FloatArray:
    """Return stored elements as float32; exact."""
    if kind == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)


def from_float32(values: FloatArray, kind: str) -> AnyArray:
    """Return float32 as stored elements, rounded to nearest even."""
    if kind == "float16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16)
    if kind != "bfloat16":
        return values
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    rounded = np.where(np.isnan(values), (bits >> 16) | 0x40, rounded)
    return rounded.astype(np.uint16)


def _view(name: str, value: object) -> View:
    if isinstance(value, np.ndarray):
        if value.dtype.isnative:
            for kind, dtype in _DTYPES.items():
                if value.dtype == dtype:
                    return View(value, kind)
        return View(value, str(value.dtype))
    if isinstance(value, type) or not hasattr(value, "__dlpack__"):
        raise TypeError(f"{name} must be an array, got {type(value).__name__}")
    given: Any = value
    torch = sys.modules.get("torch")
    bfloat16 = torch is not None and getattr(given, "dtype", None) is torch.bfloat16
    try:
        if bfloat16:
            signed = np.from_dlpack(given.view(torch.int16))  # type: ignore[union-attr]
            return _view_of(signed.view(np.uint16), "bfloat16")
        array = np.from_dlpack(given)
    except (BufferError, RuntimeError) as exc:
        if _device(given) not in (None, 1):
            raise ValueError(
                f"{name} must be in the memory of the CPU, got DLPack device {_device(given)}"
            ) from exc
        raise ValueError(f"{name} cannot be read through DLPack: {exc}") from exc
    return _view_of(array, _view(name, array).kind)


def _view_of(array: AnyArray, kind: str) -> View:
    # from_dlpack is read-only for producers that do not say; the memory is the owner's to lend.
    if not array.flags.writeable:
        pointer = array.__array_interface__ | {"data": (array.ctypes.data, False)}
        holder = type("_Lent", (), {"__array_interface__": pointer, "owner": array})()
        array = np.asarray(holder)
    return View(array, kind)


def _device(value: Any) -> int | None:
    try:
        return int(value.__dlpack_device__()[0])
    except (AttributeError, BufferError, RuntimeError, TypeError, ValueError):
        return None
