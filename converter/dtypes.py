"""Element types: one row for each, with its code in every format.

Sources of the codes: DataType in tensorflow/core/framework/types.proto, torch's typed storages
(torch/storage.py), and the safetensors format
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class DType:
    """An element type.

    Args:
        name: The name in receipts and options.
        storage: The little-endian NumPy type that holds the bits. NumPy has no bfloat16: its bits
            are held as uint16. None if elements have no fixed size (strings).
        tensorflow: The code in TensorFlow's DataType, or None.
        torch: The name of torch's typed storage, or None.
        safetensors: The name in a safetensors header, or None.
        floating: Whether it is a floating-point type.

    Examples:
        >>> BFLOAT16.itemsize, BFLOAT16.numpy
        (2, dtype('uint16'))
    """

    name: str
    storage: str | None
    tensorflow: int | None = None
    torch: str | None = None
    safetensors: str | None = None
    floating: bool = False

    @property
    def numpy(self) -> np.dtype[Any]:
        """Return the NumPy type of loaded arrays. Raises TypeError for strings, which have none."""
        if self.storage is None:
            raise TypeError(f"{self.name} has no fixed-size NumPy type")
        return np.dtype(self.storage)

    @property
    def itemsize(self) -> int:
        """Return the number of bytes per element; 0 for strings."""
        return 0 if self.storage is None else self.numpy.itemsize

    def widens_to(self, other: DType) -> bool:
        """Return whether `other` can hold each value of this type; both are floating types.

        Neither of float16 and bfloat16 widens to the other.
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
    """Return the array's bytes in C order; no copy is made of an array in C order.

    Examples:
        >>> as_bytes(np.array([1, 2], "<u2")).tobytes()
        b'\\x01\\x00\\x02\\x00'
    """
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def as_bits(array: Array) -> Array:
    """Return the array's bits as a flat array of unsigned integers, for bitwise comparison.

    Examples:
        >>> as_bits(np.array([0.0, -0.0], "<f4"))
        array([         0, 2147483648], dtype=uint32)
    """
    return np.ascontiguousarray(array).reshape(-1).view(f"<u{min(array.itemsize, 8)}")


def as_float32(array: Array, dtype: DType) -> Array:
    """Return `array` (stored as `dtype`) as float32 of the same shape; only float64 is rounded."""
    if dtype is BFLOAT16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)


def cast(array: Array, source: DType, target: DType) -> Array:
    """Return `array` cast from `source` to `target`, rounded to nearest, ties to even.

    Args:
        array: Values in `source`'s storage, of any shape.
        source: The floating type of `array`.
        target: The floating type to cast to.

    Returns:
        An array of the same shape in `target`'s storage; `array` itself if the types are equal.
        NaN stays NaN. Values beyond the range become infinity, which the caller checks for.

    Raises:
        ValueError: One of the types is not a floating type.

    Examples:
        >>> cast(np.array([1 / 3], "<f4"), FLOAT32, FLOAT16)
        array([0.3333], dtype=float16)
    """
    if source is target:
        return array
    if not (source.floating and target.floating):
        raise ValueError(f"can't cast {source} to {target}: only floating types are cast")
    if target is not BFLOAT16:
        wide = as_float32(array, source) if source is BFLOAT16 else array
        # The caller reports infinity, with the tensor's name; signalling NaN become quiet ones.
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
    """Round by way of float32, rounded to odd, so that rounding twice equals rounding once.

    Boldo and Melquiond 2008, "Emulation of a FMA and correctly rounded sums: proved algorithms
    using rounding to odd".
    """
    with np.errstate(over="ignore", invalid="ignore"):
        near = array.astype(np.float32)
    bits = near.view(np.uint32).copy()
    inexact = np.isfinite(array) & (near.astype(np.float64) != array)
    too_far = inexact & (np.abs(near.astype(np.float64)) > np.abs(array))
    bits[too_far] -= 1  # towards zero; infinity becomes the largest finite value
    bits[inexact] |= 1
    return _round_float32_to_bfloat16(bits.view(np.float32))


def first_nonfinite(array: Array, dtype: DType) -> tuple[int, ...] | None:
    """Return the index of the first NaN or infinity of `array` (stored as `dtype`), or None.

    If the sum is finite, so is every term: one pass, without a temporary array. If it is not, it
    may have overflowed, and every element is checked.

    Examples:
        >>> first_nonfinite(np.array([[1, np.nan]], "<f4"), FLOAT32)
        (0, 1)
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
