"""The pickle that describes the tensors of a state_dict, in both of PyTorch's formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

import numpy as np

from converter.catalog import TensorRef
from converter.dtypes import BY_TORCH, Array, DType
from converter.sources import plain_data, unpickler
from converter.sources.plain_data import Dict, Name, PickleError
from facenet_common.errors import FormatError


@dataclass(frozen=True)
class Storage:
    """A one-dimensional array of `count` elements, stored in the file under `key`."""

    key: str
    dtype: DType
    count: int


class Storages(dict[str, Storage]):
    """The storages of a pickle, by key."""

    def add(self, persistent_id: object) -> Storage:
        """Add and return the storage of a persistent id. Raises PickleError."""
        storage = persistent_storage(persistent_id)
        if self.setdefault(storage.key, storage) != storage:
            raise PickleError(f"storage {storage.key[:40]} has two different descriptions")
        return storage


@dataclass(frozen=True)
class Tensor:
    """A view of a storage; offset and strides are in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def persistent_storage(value: object) -> Storage:
    """Decode the persistent id ``('storage', torch.XStorage, key, location, count[, view])``.

    Raises:
        PickleError: It has another form.
    """
    if not isinstance(value, tuple) or len(value) not in (5, 6) or value[0] != "storage":
        raise PickleError("a persistent id that does not name a storage")
    _, kind, key, _, count, *rest = value
    if not isinstance(kind, Name) or kind.path.removeprefix("torch ") not in BY_TORCH:
        raise PickleError("a storage of unknown type")
    if rest not in ([], [None]):
        raise PickleError("a storage that is a view of another storage")
    dtype = BY_TORCH[kind.path.removeprefix("torch ")]
    return Storage(plain_data.text(key), dtype, *plain_data.sizes(plain_data.Tuple([count])))


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
    if metadata:  # the stored values are to be conjugated or negated first
        raise PickleError(
            "a lazily conjugated or negated tensor: save tensor.resolve_conj().resolve_neg()"
        )
    tensor = Tensor(
        storage, plain_data.integer(offset), plain_data.sizes(shape), plain_data.sizes(strides)
    )
    if len(tensor.shape) != len(tensor.strides) or tensor.offset < 0:
        raise PickleError("a tensor with strides that don't match its shape")
    count = prod(tensor.shape)
    last = tensor.offset + sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    if count and (last >= storage.count or count > storage.count):
        raise PickleError(
            f"a tensor of shape {list(tensor.shape)} that exceeds or repeats its storage "
            f"of {storage.count} elements"
        )
    return tensor


def _rebuild_parameter(tensor: object, *_: object) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise PickleError("a parameter that is not a tensor")
    return tensor


def _ordered_dict(pairs: object = None) -> Dict:
    """Return an empty dict, or one from a list of pairs, as Python 2 pickled it."""
    result = Dict()
    if pairs is None:
        return result
    if not isinstance(pairs, plain_data.List):
        raise PickleError("an OrderedDict that is not made from a list")
    if not all(isinstance(pair, (plain_data.Tuple, plain_data.List)) for pair in pairs):
        raise PickleError("an OrderedDict that is not made from pairs")
    result.add((key, value) for key, value in pairs)
    return result


def _not_called(*_: object) -> object:
    raise PickleError("a call of a storage type")


CONSTRUCTORS: unpickler.Constructors = {
    "collections OrderedDict": _ordered_dict,
    "torch._utils _rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils _rebuild_parameter": _rebuild_parameter,
    **{f"torch {name}": _not_called for name in BY_TORCH},
}


class NotOnlyTensorsError(PickleError):
    """A dict has values that are not tensors, as those that training scripts save.

    `state_dicts` holds the keys of values that may be a state_dict.
    """

    def __init__(self, items: Mapping[str, object]) -> None:
        others = [name for name, value in items.items() if not isinstance(value, Tensor)]
        shown = ", ".join(repr(name[:60]) for name in others[:5])
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        verb = "is not a tensor" if len(others) == 1 else "are not tensors"
        super().__init__(f"a dict in which {shown}{more} {verb}")
        self.state_dicts = [name for name in others if _is_state_dict(items[name])]


def _is_state_dict(value: object) -> bool:
    return (
        isinstance(value, Dict)
        and bool(value)
        and all(isinstance(item, Tensor) for item in value.values())
    )


def pickle_error(path: Path, error: PickleError) -> FormatError:
    """Return the FormatError for a .pt file with the pickle error `error`."""
    if not isinstance(error, NotOnlyTensorsError):
        return unpickler.format_error(path, error, "the pickle in the .pt file")
    found, state = str(error), "model.state_dict()"
    if error.state_dicts:
        keys = error.state_dicts
        found += f"; a state_dict is under {', '.join(map(repr, keys[:5]))}"
        state = f"torch.load(path, weights_only=True)[{keys[0]!r}]"
    return FormatError(
        "the .pt file holds more than a state_dict",
        file=path,
        expected="a dict of tensors by name",
        found=found,
        next_step=f"save the state_dict alone: torch.save({state}, 'weights.pt')",
    )


def state_dict(root: object, data: Callable[[Storage], memoryview]) -> dict[str, TensorRef]:
    """Return the tensors of a state_dict, by name.

    Args:
        root: The unpickled object.
        data: Return the verified bytes of a storage.

    Raises:
        PickleError: `root` is not a state_dict.
    """
    if not isinstance(root, Dict):
        raise PickleError("the pickle does not hold a state_dict")
    items = plain_data.named(root)
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
