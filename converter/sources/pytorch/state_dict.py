"""What the two PyTorch formats share: the pickle that describes a state_dict's tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

import numpy as np

from converter.catalog import TensorRef
from converter.dtypes import BY_TORCH, Array, DType
from converter.sources import unpickler
from converter.sources.unpickler import Dict, Name, PickleError
from facenet_common.errors import FormatError


@dataclass(frozen=True)
class Storage:
    """A run of `count` elements, stored in the file under `key`."""

    key: str
    dtype: DType
    count: int


class Storages(dict[str, Storage]):
    """The storages that a pickle refers to, by key."""

    def refer(self, value: object) -> Storage:
        """The storage that a persistent id stands for; noted. PickleError."""
        storage = persistent_storage(value)
        if self.setdefault(storage.key, storage) != storage:
            raise PickleError(f"storage {storage.key[:40]} is described in two ways")
        return storage


@dataclass(frozen=True)
class Tensor:
    """A view of a storage. Offset and strides are in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def persistent_storage(value: object) -> Storage:
    """``('storage', torch.XStorage, key, location, count[, view])``. PickleError."""
    if not isinstance(value, tuple) or len(value) not in (5, 6) or value[0] != "storage":
        raise PickleError("a reference to something that is no storage")
    _, kind, key, _, count, *rest = value
    if not isinstance(kind, Name) or kind.path.removeprefix("torch ") not in BY_TORCH:
        raise PickleError("a storage of an unknown type")
    if rest not in ([], [None]):
        raise PickleError("a storage that is part of another one")
    dtype = BY_TORCH[kind.path.removeprefix("torch ")]
    return Storage(unpickler.text(key), dtype, *unpickler.sizes(unpickler.Tuple([count])))


def _rebuild_tensor(
    storage: object,
    offset: object,
    shape: object,
    strides: object,
    _requires_grad: object = False,
    _hooks: object = None,
    metadata: object = None,
) -> Tensor:
    if not isinstance(storage, Storage):
        raise PickleError("a tensor without a storage")
    if metadata:  # whether the stored values are yet to be conjugated or negated
        raise PickleError(
            "a lazily conjugated or negated tensor: save tensor.resolve_conj().resolve_neg()"
        )
    tensor = Tensor(
        storage, unpickler.integer(offset), unpickler.sizes(shape), unpickler.sizes(strides)
    )
    if len(tensor.shape) != len(tensor.strides) or tensor.offset < 0:
        raise PickleError("a tensor whose strides don't match its shape")
    count = prod(tensor.shape)
    last = tensor.offset + sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    if count and (last >= storage.count or count > storage.count):
        raise PickleError(
            f"a tensor of shape {list(tensor.shape)} that repeats its storage or reaches past it, "
            f"of {storage.count} elements"
        )
    return tensor


def _rebuild_parameter(tensor: object, *_: object) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise PickleError("a parameter that is no tensor")
    return tensor


def _ordered_dict(pairs: object = None) -> Dict:
    """Empty, or as Python 2 pickled it: made of a list of pairs."""
    made = Dict()
    if pairs is None:
        return made
    if not isinstance(pairs, unpickler.List):
        raise PickleError("an OrderedDict of something that is no list")
    if not all(isinstance(pair, (unpickler.Tuple, unpickler.List)) for pair in pairs):
        raise PickleError("an OrderedDict of something that is no list of pairs")
    made.add((key, value) for key, value in pairs)
    return made


def _not_called(*_: object) -> object:
    raise PickleError("a storage type is called")


CONSTRUCTORS: unpickler.Constructors = {
    "collections OrderedDict": _ordered_dict,
    "torch._utils _rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils _rebuild_parameter": _rebuild_parameter,
    **{f"torch {name}": _not_called for name in BY_TORCH},
}


class NotOnlyTensorsError(PickleError):
    """A dict that holds other things than tensors, as training scripts save it.

    `inside` are the names under which it holds what may be a state_dict.
    """

    def __init__(self, items: Mapping[str, object]) -> None:
        others = [name for name, value in items.items() if not isinstance(value, Tensor)]
        shown = ", ".join(repr(name[:60]) for name in others[:5])
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        verb = "is no tensor" if len(others) == 1 else "are no tensors"
        super().__init__(f"a dict in which {shown}{more} {verb}")
        self.inside = [name for name in others if _is_state_dict(items[name])]


def _is_state_dict(value: object) -> bool:
    return (
        isinstance(value, Dict)
        and bool(value)
        and all(isinstance(item, Tensor) for item in value.values())
    )


def refused(path: Path, error: PickleError) -> FormatError:
    """The FormatError for a .pt file whose pickle was refused."""
    if not isinstance(error, NotOnlyTensorsError):
        return unpickler.damaged(path, error, "the pickle in the .pt file")
    found, state = str(error), "model.state_dict()"
    if error.inside:
        found += f"; a state_dict is under {', '.join(map(repr, error.inside[:5]))}"
        state = f"torch.load(path, weights_only=True)[{error.inside[0]!r}]"
    return FormatError(
        "the .pt file holds more than a state_dict",
        file=path,
        expected="tensors by name, and nothing else",
        found=found,
        next_step=f"save the state_dict alone: torch.save({state}, 'weights.pt')",
    )


def state_dict(root: object, data: Callable[[Storage], memoryview]) -> dict[str, TensorRef]:
    """Tensors by name. `data` gives a storage's bytes, checked. PickleError where `root` is no
    state_dict.
    """
    if not isinstance(root, Dict):
        raise PickleError("no state_dict, but something else")
    items = unpickler.named(root)
    if not all(isinstance(value, Tensor) for value in items.values()):
        raise NotOnlyTensorsError(items)
    return {name: _tensor(name, tensor, data) for name, tensor in root.items()}


def _tensor(name: str, tensor: Tensor, data: Callable[[Storage], memoryview]) -> TensorRef:
    return TensorRef(name, tensor.storage.dtype, tensor.shape, partial(_load, tensor, data))


def _load(tensor: Tensor, data: Callable[[Storage], memoryview]) -> Array:
    dtype = tensor.storage.dtype.numpy
    flat = np.frombuffer(data(tensor.storage), dtype)
    if not prod(tensor.shape):
        return _read_only(np.empty(tensor.shape, dtype))
    view = np.lib.stride_tricks.as_strided(
        flat[tensor.offset :],
        tensor.shape,
        [stride * dtype.itemsize for stride in tensor.strides],
        writeable=False,
    )
    return view if view.flags.c_contiguous else _read_only(np.ascontiguousarray(view))


def _read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array
