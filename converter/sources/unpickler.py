"""A pickle interpreter that can only build plain data: it imports nothing and calls nothing.

A pickle is a program. This one runs it on a machine without dangerous instructions: GLOBAL and
STACK_GLOBAL yield inert names out of a table that the format module gives, REDUCE looks the name
up in that table, and whatever isn't in the table ends in a FormatError. Lexing is left to the
standard library's pickletools, which executes nothing either.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from converter.sources.shapes import impossible
from facenet_common.errors import FormatError
from facenet_common.text import printable

MAX_DEPTH = 64  # of nested containers; real files have 5
MAX_OPERATIONS = 2_000_000  # real files have 50,000


class PickleError(ValueError):
    """What the pickle asks for is refused, or is no pickle. The caller says of which file."""


class Name:
    """An inert global: ``module name``. Nothing was imported for it."""

    def __init__(self, path: str) -> None:
        self.path = path


class Tuple(tuple[Any, ...]):
    """A tuple that knows how deep it is nested, so that nothing recurses into a hostile one."""

    depth: int


class List(list[Any]):
    """A list, likewise."""

    depth = 1


class Dict(dict[Any, Any]):
    """A dict whose keys are text or, as in an optimiser's state, whole numbers; likewise."""

    depth = 1

    def add(self, items: Iterable[tuple[Any, Any]]) -> None:
        """Set keys that aren't there yet. PickleError."""
        for key, value in items:
            if type(key) is not int and not isinstance(key, str):
                raise PickleError("a dict of the pickle has a key that is no text")
            if isinstance(key, str) and not _is_utf8(key):
                raise PickleError("a key is text that can't be written as UTF-8")
            if key in self:
                raise PickleError(f"the key {printable(key, 80)} occurs twice")
            self.depth = max(self.depth, 1 + _depth(value))
            self[key] = value
        _check_depth(self.depth)


class Buildable:
    """An object that takes its state from BUILD."""

    def build(self, state: object) -> None:
        """Take `state`. PickleError where it is not of the expected form."""
        raise NotImplementedError


class Reader(Protocol):
    """A file of bytes, as `io.BytesIO` and `mmap.mmap` are."""

    def tell(self) -> int: ...

    def read(self, size: int, /) -> bytes: ...

    def readline(self) -> bytes: ...


Constructors = Mapping[str, Callable[..., object]]


def load(
    reader: Reader,
    constructors: Constructors,
    persistent: Callable[[object], object] | None = None,
) -> Any:
    """The data that the next pickle of `reader` describes; `reader` stops behind it.

    `constructors` maps ``"module name"`` to what builds such an object from plain arguments;
    `persistent` builds what a persistent id stands for. Raises PickleError.
    """
    machine = _Machine(constructors, persistent)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(reader)):  # type: ignore[arg-type] # uses no more of it
            if count > MAX_OPERATIONS:
                raise PickleError(f"the pickle has more than {MAX_OPERATIONS} operations")
            machine.step(opcode.name, argument)
        return machine.result()
    except PickleError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise PickleError(printable(error, 200) or type(error).__name__) from error


class _Machine:
    """The stack, the marks and the memo."""

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
            raise PickleError(f"the pickle uses operation {name}, which weights never need")
        operation(self, argument)

    def result(self) -> Any:
        if self.marks or len(self.stack) != 1:
            raise PickleError("the pickle does not end in one object")
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
        made = Tuple(items)
        made.depth = 1 + max(map(_depth, items), default=0)
        _check_depth(made.depth)
        self.stack.append(made)

    def short_tuple(self, size: int) -> None:
        items = [self.stack.pop() for _ in range(size)][::-1]
        self.tuple_of(items)

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, List):
            raise PickleError("the pickle appends to something that is no list")
        target.depth = max([target.depth, *(1 + _depth(item) for item in items)])
        _check_depth(target.depth)
        target.extend(items)

    def update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, Dict):
            raise PickleError("the pickle sets items of something that is no dict")
        target.add(zip(items[::2], items[1::2], strict=True))

    # --- objects

    def name(self, path: str) -> None:
        if path not in self.constructors:
            raise PickleError(
                f"the pickle asks for {printable(path, 80)!r}, which weights never need: "
                "it was not run, and may be malicious"
            )
        self.stack.append(Name(path))

    def stack_name(self, _: None) -> None:
        attribute, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(attribute, str) and isinstance(module, str)):
            raise PickleError("a global's name is no text")
        self.name(f"{module} {attribute}")

    def reduce(self, _: None) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not (isinstance(function, Name) and isinstance(arguments, Tuple)):
            raise PickleError("the pickle calls something that is no known constructor")
        self.stack.append(self.constructors[function.path](*arguments))

    def build(self, _: None) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Buildable):
            target.build(state)
        elif not isinstance(target, Dict):  # an OrderedDict's attributes (_metadata) are not needed
            raise PickleError("the pickle gives state to something that takes none")

    def persistent_id(self, _: None) -> None:
        if self.persistent is None:
            raise PickleError("the pickle refers to data outside itself")
        self.stack.append(self.persistent(self.stack.pop()))


def _is_utf8(text: str) -> bool:
    """Whether `text` has no lone surrogates: pickles can spell them, nothing can print them."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _depth(item: object) -> int:
    return getattr(item, "depth", 0)


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise PickleError(f"the pickle nests more than {MAX_DEPTH} levels")


_LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip

_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda *_: None),
    "NONE": lambda m, _: m.stack.append(None),
    "NEWTRUE": lambda m, _: m.stack.append(True),
    "NEWFALSE": lambda m, _: m.stack.append(False),
    "EMPTY_LIST": lambda m, _: m.stack.append(List()),
    "EMPTY_DICT": lambda m, _: m.stack.append(Dict()),
    "MARK": _Machine.mark,
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "EMPTY_TUPLE": lambda m, _: m.tuple_of([]),
    "TUPLE": lambda m, _: m.tuple_of(m.to_mark()),
    "TUPLE1": lambda m, _: m.short_tuple(1),
    "TUPLE2": lambda m, _: m.short_tuple(2),
    "TUPLE3": lambda m, _: m.short_tuple(3),
    "APPEND": lambda m, _: m.extend([m.stack.pop()]),
    "APPENDS": lambda m, _: m.extend(m.to_mark()),
    "SETITEM": lambda m, _: m.update([m.stack.pop(), m.stack.pop()][::-1]),
    "SETITEMS": lambda m, _: m.update(m.to_mark()),
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stack_name,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent_id,
}


def named(items: Dict) -> dict[str, Any]:
    """`items`, whose keys must all be text. PickleError."""
    if not all(isinstance(key, str) for key in items):
        raise PickleError("a dict of the pickle has a key that is no text")
    return items


def text(value: object) -> str:
    """`value`, which must be text. PickleError."""
    if not isinstance(value, str):
        raise PickleError("something else where text belongs")
    return value


def integer(value: object) -> int:
    """`value`, which must be a whole number. PickleError."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise PickleError("something else where a whole number belongs")
    return value


def sizes(value: object) -> tuple[int, ...]:
    """`value`, which must be a tuple of whole numbers that a shape can have. PickleError."""
    if not isinstance(value, Tuple):
        raise PickleError("something else where a shape belongs")
    numbers = tuple(integer(item) for item in value)
    if wrong := impossible(numbers):
        raise PickleError(wrong)
    return numbers


def damaged(path: Path, error: Exception, what: str) -> FormatError:
    """The FormatError for a file whose pickle was refused."""
    return FormatError(
        f"{what} can't be read",
        file=path,
        found=error,
        next_step="fetch the file again; never load a file like this with pickle or numpy itself",
    )
