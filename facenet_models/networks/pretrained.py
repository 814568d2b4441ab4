"""Trained weights of a network, from a loader that is set from outside.

The networks import nothing that looks for files or downloads them. The package itself
(``facenet_models/__init__.py``) sets `facenet_models.weights.pretrained.load` as their loader.
Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from facenet_common.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor, nn


class Loaded(NamedTuple):
    """A state_dict, and the file that it was read from."""

    state: dict[str, Tensor]
    file: Path

    def rows(self, name: str) -> int | None:
        """Return the first dimension of a tensor; None where there is no such tensor."""
        value = self.state.get(name)
        return value.shape[0] if value is not None and value.ndim else None

    def fill(self, model: nn.Module) -> None:
        """Copy the tensors into `model`, in its own dtypes.

        Counters of batches (``num_batches_tracked``), which conversions may leave out, become 0.

        Raises:
            WeightsError: A name is missing or unknown, or a shape differs; all are named.
        """
        counters = {
            name: value.new_zeros(())
            for name, value in model.state_dict().items()
            if name.endswith(".num_batches_tracked")
        }
        try:
            model.load_state_dict({**counters, **self.state})
        except RuntimeError as error:
            raise WeightsError(
                f"the weights do not fit {type(model).__name__}",
                file=self.file,
                found="; ".join(line.strip() for line in str(error).splitlines()[1:]),
            ) from error


Loader = Callable[["str | PathLike[str]", str], Loaded]
_loader: Loader | None = None


def set_loader(loader: Loader) -> None:
    """Set the function that `load` calls. It takes a name or a path, and the network's class."""
    global _loader
    _loader = loader


def load(pretrained: str | PathLike[str], architecture: str) -> Loaded:
    """Return the weights that `pretrained` names, on the CPU.

    Args:
        pretrained: A name of the registry, or the path of a weight file.
        architecture: The name of the network's class.

    Raises:
        FacenetError: As `facenet_models.weights.pretrained.load`.
    """
    assert _loader is not None, "facenet_models sets a loader when it is imported"
    return _loader(pretrained, architecture)
