"""Element types: one row each, with its code in every format.

Sources of the codes: TensorFlow `core/framework/types.proto` (DataType), torch's typed storages,
the safetensors format page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # numpy.typing takes a tenth of NumPy's import
    from numpy.typing import NDArray

    Array = NDArray[Any]
else:
    Array = np.ndarray


@dataclass(frozen=True)
class DType:
    """An element type.

    `storage` is the little-endian NumPy type that carries the bits: NumPy has no bfloat16, whose
    bits travel as uint16. It is None where elements have no fixed size (strings).
    """

    name: str
    storage: str | None
    tensorflow: int | None = None
    torch: str | None = None
    safetensors: str | None = None
    floating: bool = False

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy type of loaded arrays. Strings have none: TypeError."""
        if self.storage is None:
            raise TypeError(f"{self.name} has no fixed-size NumPy type")
        return np.dtype(self.storage)

    @property
    def itemsize(self) -> int:
        """Bytes per element; 0 for strings."""
        return 0 if self.storage is None else self.numpy.itemsize

    def widens_to(self, other: DType) -> bool:
        """Whether each value of this floating type is one of `other`, another floating type.

        Float16 and bfloat16 hold values that the other one lacks.
        """
        return self.floating and other.floating and self.itemsize < other.itemsize

    def __str__(self) -> str:
        return self.name


FLOAT32 = DType("float32", "<f4", 1, "FloatStorage", "F32", floating=True)
FLOAT64 = DType("float64", "<f8", 2, "DoubleStorage", "F64", floating=True)
FLOAT16 = DType("float16", "<f2", 19, "HalfStorage", "F16", floating=True)
BFLOAT16 = DType("bfloat16", "<u2", 14, "BFloat16Storage", "BF16", floating=True)
INT64 = DType("int64", "<i8", 9, "LongStorage", "I64")
STRING = DType("string", None, 7)

DTYPES = (
    FLOAT32,
    FLOAT64,
    FLOAT16,
    BFLOAT16,
    INT64,
    DType("int32", "<i4", 3, "IntStorage", "I32"),
    DType("int16", "<i2", 5, "ShortStorage", "I16"),
    DType("int8", "|i1", 6, "CharStorage", "I8"),
    DType("uint8", "|u1", 4, "ByteStorage", "U8"),
    DType("uint16", "<u2", 17, None, "U16"),
    DType("uint32", "<u4", 22, None, "U32"),
    DType("uint64", "<u8", 23, None, "U64"),
    DType("bool", "|b1", 10, "BoolStorage", "BOOL"),
    DType("complex64", "<c8", 8, "ComplexFloatStorage", None),
    DType("complex128", "<c16", 18, "ComplexDoubleStorage", None),
    STRING,
)

BY_NAME = {dtype.name: dtype for dtype in DTYPES}
BY_TENSORFLOW = {dtype.tensorflow: dtype for dtype in DTYPES if dtype.tensorflow is not None}
BY_TORCH = {dtype.torch: dtype for dtype in DTYPES if dtype.torch is not None}
BY_SAFETENSORS = {dtype.safetensors: dtype for dtype in DTYPES if dtype.safetensors is not None}


def as_bytes(array: Array) -> memoryview:
    """The array's bytes in C order, without a copy where they lie so already."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def as_words(array: Array) -> Array:
    """The array's bits as a flat array of unsigned integers, for bitwise comparison."""
    return np.ascontiguousarray(array).reshape(-1).view(f"<u{min(array.itemsize, 8)}")


def as_float32(array: Array, dtype: DType) -> Array:
    """Values of `array` (stored as `dtype`) as float32 of the same shape; exact but for float64."""
    if dtype is BFLOAT16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)


def cast(array: Array, source: DType, target: DType) -> Array:
    """`array` (stored as `source`) in `target`'s storage, rounded to nearest, ties to even.

    Both must be floating types (ValueError). NaN stays NaN; values beyond the range become
    infinity, which the caller checks for.
    """
    if source is target:
        return array
    if not (source.floating and target.floating):
        raise ValueError(f"no cast from {source} to {target}: only floating types are cast")
    if target is not BFLOAT16:
        wide = as_float32(array, source) if source is BFLOAT16 else array
        # Infinity is reported by the caller, with the tensor; signalling NaN become quiet ones.
        with np.errstate(over="ignore", invalid="ignore"):
            return wide.astype(target.numpy)
    if source is FLOAT64:
        return _round_float64_to_bfloat16(array)
    return _round_float32_to_bfloat16(as_float32(array, source))


def _round_float32_to_bfloat16(array: Array) -> Array:
    bits = array.view(np.uint32)
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> 16).astype(np.uint16)
    quiet_nan = ((bits >> 16) | 0x0040).astype(np.uint16)
    return np.where(np.isnan(array), quiet_nan, rounded).astype(BFLOAT16.numpy)


def _round_float64_to_bfloat16(array: Array) -> Array:
    """Through float32 rounded to odd, so that rounding twice equals rounding once."""
    with np.errstate(over="ignore", invalid="ignore"):
        near = array.astype(np.float32)
    bits = near.view(np.uint32).copy()
    inexact = np.isfinite(array) & (near.astype(np.float64) != array)
    too_far = inexact & (np.abs(near.astype(np.float64)) > np.abs(array))
    bits[too_far] -= 1  # towards zero; infinity becomes the largest finite value
    bits[inexact] |= 1
    return _round_float32_to_bfloat16(bits.view(np.float32))


def first_nonfinite(array: Array, dtype: DType) -> tuple[int, ...] | None:
    """Index of the first NaN or infinity of `array` (stored as `dtype`), or None.

    One pass without a temporary where all is finite, as it nearly always is: a sum is finite only
    if its terms are. (It may overflow though they are; then every element is looked at.)
    """
    if not dtype.floating or array.size == 0:
        return None
    if dtype is BFLOAT16:
        wrong = (array & np.uint16(0x7F80)) == 0x7F80
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(array.sum()):
                return None
        wrong = ~np.isfinite(array)
    if not wrong.any():
        return None
    return tuple(int(i) for i in np.unravel_index(int(wrong.argmax()), array.shape))
