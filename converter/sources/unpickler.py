"""A restricted unpickler: it builds plain data, and never imports or calls what a pickle names.

A pickle is a program. GLOBAL and STACK_GLOBAL push a name if it is in the format's table of
constructors, REDUCE calls the constructor of that name, and any other name is an error. The
standard library's pickletools decodes the operations; it executes nothing.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from converter.sources.plain_data import (
    MAX_DEPTH,
    Buildable,
    Dict,
    List,
    Name,
    PickleError,
    Tuple,
    check_depth,
    depth,
)
from facenet_common.errors import FormatError
from facenet_common.text import printable

MAX_OPERATIONS = 2_000_000  # real files have 50,000


class Reader(Protocol):
    """A binary file, such as `io.BytesIO` and `mmap.mmap`."""

    def tell(self) -> int: ...

    def read(self, size: int, /) -> bytes: ...

    def readline(self) -> bytes: ...


Constructors = Mapping[str, Callable[..., object]]


def load(
    reader: Reader,
    constructors: Constructors,
    persistent: Callable[[object], object] | None = None,
) -> Any:
    """Unpickle the next pickle of `reader`, which is then positioned after it.

    Args:
        reader: The file.
        constructors: For each ``"module name"`` that the pickle may contain, a function that
            builds such an object from plain arguments.
        persistent: Return the object for a persistent id.

    Raises:
        PickleError: The pickle is malformed, or names something else.

    Examples:
        >>> import io, pickle
        >>> load(io.BytesIO(pickle.dumps({"weights": [1, 2]})), {})
        {'weights': [1, 2]}
        >>> load(io.BytesIO(b"cos\\nsystem\\n."), {})
        Traceback (most recent call last):
        converter.sources.plain_data.PickleError: the pickle refers to 'os system', ...
    """
    unpickler = _Unpickler(constructors, persistent)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(reader)):  # type: ignore[arg-type] # uses no more of it
            if count > MAX_OPERATIONS:
                raise PickleError(f"the pickle has more than {MAX_OPERATIONS} operations")
            unpickler.step(opcode.name, argument)
        return unpickler.result()
    except PickleError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise PickleError(printable(error, 200) or type(error).__name__) from error


class _Unpickler:
    """The state of unpickling: the stack, the marks and the memo."""

    def __init__(
        self, constructors: Constructors, persistent: Callable[[object], object] | None
    ) -> None:
        self.constructors = constructors
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self.stack.append(argument)
            return
        operation = _OPERATIONS.get(name)
        if operation is None:
            raise PickleError(f"the pickle has the operation {name}, which weights never need")
        operation(self, argument)

    def result(self) -> Any:
        if self.marks or len(self.stack) != 1:
            raise PickleError("the pickle does not end with one object")
        return self.stack[0]

    # --- the stack

    def mark(self, _: None) -> None:
        if len(self.marks) >= MAX_DEPTH:
            raise PickleError(f"the pickle nests more than {MAX_DEPTH} levels")
        self.marks.append(self.stack)
        self.stack = []

    def to_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def put(self, slot: int) -> None:
        self.memo[slot] = self.stack[-1]

    def memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, slot: int) -> None:
        self.stack.append(self.memo[slot])

    # --- containers

    def tuple_of(self, items: list[Any]) -> None:
        result = Tuple(items)
        result.depth = 1 + max(map(depth, items), default=0)
        check_depth(result.depth)
        self.stack.append(result)

    def short_tuple(self, size: int) -> None:
        items = [self.stack.pop() for _ in range(size)][::-1]
        self.tuple_of(items)

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, List):
            raise PickleError("the pickle appends to an object that is not a list")
        target.depth = max([target.depth, *(1 + depth(item) for item in items)])
        check_depth(target.depth)
        target.extend(items)

    def update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, Dict):
            raise PickleError("the pickle sets items of an object that is not a dict")
        target.add(zip(items[::2], items[1::2], strict=True))

    # --- objects

    def name(self, path: str) -> None:
        if path not in self.constructors:
            raise PickleError(
                f"the pickle refers to {printable(path, 80)!r}, which weights never need: "
                "it was not run, and may be malicious"
            )
        self.stack.append(Name(path))

    def stack_name(self, _: None) -> None:
        attribute, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(attribute, str) and isinstance(module, str)):
            raise PickleError("the name of a global is not text")
        self.name(f"{module} {attribute}")

    def reduce(self, _: None) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not (isinstance(function, Name) and isinstance(arguments, Tuple)):
            raise PickleError("the pickle calls an object that is not a constructor")
        self.stack.append(self.constructors[function.path](*arguments))

    def build(self, _: None) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Buildable):
            target.build(state)
        elif not isinstance(
            target, Dict
        ):  # the attributes of an OrderedDict (_metadata) are not needed
            raise PickleError("the pickle sets the state of an object that has none")

    def persistent_id(self, _: None) -> None:
        if self.persistent is None:
            raise PickleError("the pickle has a persistent id, which this format never has")
        self.stack.append(self.persistent(self.stack.pop()))


_LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip

_OPERATIONS: dict[str, Callable[[_Unpickler, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda *_: None),
    "NONE": lambda m, _: m.stack.append(None),
    "NEWTRUE": lambda m, _: m.stack.append(True),
    "NEWFALSE": lambda m, _: m.stack.append(False),
    "EMPTY_LIST": lambda m, _: m.stack.append(List()),
    "EMPTY_DICT": lambda m, _: m.stack.append(Dict()),
    "MARK": _Unpickler.mark,
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "PUT": _Unpickler.put,
    "BINPUT": _Unpickler.put,
    "LONG_BINPUT": _Unpickler.put,
    "MEMOIZE": _Unpickler.memoize,
    "GET": _Unpickler.get,
    "BINGET": _Unpickler.get,
    "LONG_BINGET": _Unpickler.get,
    "EMPTY_TUPLE": lambda m, _: m.tuple_of([]),
    "TUPLE": lambda m, _: m.tuple_of(m.to_mark()),
    "TUPLE1": lambda m, _: m.short_tuple(1),
    "TUPLE2": lambda m, _: m.short_tuple(2),
    "TUPLE3": lambda m, _: m.short_tuple(3),
    "APPEND": lambda m, _: m.extend([m.stack.pop()]),
    "APPENDS": lambda m, _: m.extend(m.to_mark()),
    "SETITEM": lambda m, _: m.update([m.stack.pop(), m.stack.pop()][::-1]),
    "SETITEMS": lambda m, _: m.update(m.to_mark()),
    "GLOBAL": _Unpickler.name,
    "STACK_GLOBAL": _Unpickler.stack_name,
    "REDUCE": _Unpickler.reduce,
    "BUILD": _Unpickler.build,
    "BINPERSID": _Unpickler.persistent_id,
}


def format_error(path: Path, error: Exception, what: str) -> FormatError:
    """Return the FormatError for a file with the pickle error `error`."""
    return FormatError(
        f"{what} can't be read",
        file=path,
        found=error,
        next_step="download the file again; never load this one with pickle or numpy.load",
    )
