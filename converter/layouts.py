"""How an array's axes are ordered on either side. Nothing is ever reshaped to fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from converter.dtypes import Array


@dataclass(frozen=True)
class Layout:
    """An order of axes: three pure functions, of which `invert` undoes `apply`.

    `axes[k]` is the TensorFlow axis that becomes PyTorch axis k. Empty: as it is, of any rank.
    """

    name: str
    axes: tuple[int, ...] = ()

    def shape(self, source: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that `apply` gives an array of shape `source`. ValueError on another rank."""
        if not self.axes:
            return source
        self._check_rank(len(source))
        return tuple(source[axis] for axis in self.axes)

    def apply(self, array: Array) -> Array:
        """`array` with its axes reordered, C-contiguous; the array itself where nothing moves."""
        if not self.axes:
            return array
        self._check_rank(array.ndim)
        return np.ascontiguousarray(array.transpose(self.axes))

    def invert(self, array: Array) -> Array:
        """The array whose `apply` is `array`."""
        return self.inverse.apply(array)

    @property
    def inverse(self) -> Layout:
        """The layout whose `apply` is this one's `invert`."""
        if not self.axes:
            return self
        order = sorted(range(len(self.axes)), key=self.axes.__getitem__)
        left, _, right = self.name.partition(" to ")
        return Layout(f"{right} to {left}", tuple(order))

    def _check_rank(self, rank: int) -> None:
        if rank != len(self.axes):
            raise ValueError(f"layout {self.name} takes {len(self.axes)} axes, not {rank}")


AS_IS = Layout("as is")
# Convolution kernels: height, width, in, out in TensorFlow; out, in, height, width in PyTorch.
HWIO_TO_OIHW = Layout("HWIO to OIHW", (3, 2, 0, 1))
# The original detector feeds transposed images, so its kernels' first axis runs along the width.
WHIO_TO_OIHW = Layout("WHIO to OIHW", (3, 2, 1, 0))
# Dense matrices.
IO_TO_OI = Layout("IO to OI", (1, 0))
