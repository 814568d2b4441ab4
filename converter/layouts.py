"""The order of an array's axes in TensorFlow and in PyTorch. Nothing is ever reshaped to fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from converter.dtypes import Array


@dataclass(frozen=True)
class Layout:
    """A permutation of axes, as pure functions; `invert` undoes `apply`.

    Args:
        name: The name in receipts, ``SOURCE to TARGET``.
        axes: ``axes[k]`` is the TensorFlow axis that becomes PyTorch's axis k. Empty: the layout
            changes nothing, for arrays of any rank.

    Examples:
        >>> HWIO_TO_OIHW.shape((3, 3, 64, 128))
        (128, 64, 3, 3)
        >>> HWIO_TO_OIHW.inverse.shape((128, 64, 3, 3))
        (3, 3, 64, 128)
    """

    name: str
    axes: tuple[int, ...] = ()

    def shape(self, source: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of `apply`'s result for an array of shape `source`.

        Raises:
            ValueError: `source` does not have as many axes as the layout.
        """
        if not self.axes:
            return source
        self._check_rank(len(source))
        return tuple(source[axis] for axis in self.axes)

    def apply(self, array: Array) -> Array:
        """Return `array` with its axes permuted, C-contiguous; `array` itself if `axes` is empty.

        Raises:
            ValueError: `array` does not have as many axes as the layout.
        """
        if not self.axes:
            return array
        self._check_rank(array.ndim)
        return np.ascontiguousarray(array.transpose(self.axes))

    def invert(self, array: Array) -> Array:
        """Return the array for which `apply` gives `array`. Raises ValueError as `apply` does."""
        return self.inverse.apply(array)

    @property
    def inverse(self) -> Layout:
        """Return the layout whose `apply` is this one's `invert`."""
        if not self.axes:
            return self
        order = sorted(range(len(self.axes)), key=self.axes.__getitem__)
        left, _, right = self.name.partition(" to ")
        return Layout(f"{right} to {left}", tuple(order))

    def _check_rank(self, rank: int) -> None:
        if rank != len(self.axes):
            raise ValueError(f"layout {self.name} needs {len(self.axes)} axes, got {rank}")


AS_IS = Layout("as is")
# Convolution kernels: (height, width, in, out) in TensorFlow, (out, in, height, width) in PyTorch.
HWIO_TO_OIHW = Layout("HWIO to OIHW", (3, 2, 0, 1))
# MTCNN's kernels: the original detector transposes its images, so the first axis is the width.
# https://github.com/davidsandberg/facenet/blob/096ed770f163957c1e56efa7feeb194773920f6e/src/align/detect_face.py
WHIO_TO_OIHW = Layout("WHIO to OIHW", (3, 2, 1, 0))
# Matrices of dense layers.
IO_TO_OI = Layout("IO to OI", (1, 0))
