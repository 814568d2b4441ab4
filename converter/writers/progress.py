"""What writers call after each tensor."""

from collections.abc import Callable

from converter.catalog import TensorRef

Progress = Callable[[TensorRef], None]
