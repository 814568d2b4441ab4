"""Find every error message in the packages, with what to do about it, for `docs/messages.md`.

The code is the only place that holds a message's wording. A message is explained by the
`next_step` of the call that makes it, by its `expected`, or by the docstring of its class, whose
second paragraph says what to do about all errors of that class. Nothing is imported: the packages'
source is parsed, so that no optional package is needed.

``python docs/site/messages.py`` prints the page's tables as Markdown.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGES = ("facenet_common", "converter", "facenet_models", "parity_tests", "facenet_release")
SAYS_ITSELF = "The message says what to do."
BASE = "FacenetError"  # the class that all errors with a message derive from

Function = ast.FunctionDef | ast.AsyncFunctionDef


class ErrorClass(NamedTuple):
    """A class of errors: its package, its bases' names, and the paragraphs of its docstring."""

    package: str
    name: str
    bases: tuple[str, ...]
    meaning: str
    advice: str
    exit_code: int | None


class Message(NamedTuple):
    """A message: its class, its text, its advice ("" if none), and the module that makes it."""

    kind: ErrorClass
    text: str
    advice: str
    module: str

    @property
    def explained(self) -> bool:
        """Whether a reader learns what to do."""
        return bool(self.advice or self.kind.advice)


class Sources:
    """The parsed modules of the packages below `root`, with their error classes and constants.

    Args:
        root: The folder that holds the packages.
        packages: The packages' names.
    """

    def __init__(self, root: Path = ROOT, packages: Iterable[str] = PACKAGES) -> None:
        self.modules = {
            ".".join(path.relative_to(root).with_suffix("").parts): ast.parse(
                path.read_text(encoding="utf-8")
            )
            for package in packages
            for path in sorted((root / package).rglob("*.py"))
        }
        self.constants = dict(
            pair for tree in self.modules.values() for pair in _constants(tree.body)
        )
        self._classes = [
            _error_class(_package(module), node)
            for module, tree in self.modules.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
        ]
        self._makers = [  # functions that return an error, with their modules
            (module, node)
            for module, tree in self.modules.items()
            for node in ast.walk(tree)
            if isinstance(node, Function) and self.error_class(_returned(node), _package(module))
        ]

    def error_class(self, name: str, package: str) -> ErrorClass | None:
        """Return the class of errors that `name` means in `package`; None if it means none."""
        found = [kind for kind in self._classes if kind.name == name]
        found.sort(key=lambda kind: kind.package != package)
        for kind in found:
            if name == BASE:
                return kind
            others = [base for base in kind.bases if base != name]  # Session(requests.Session)
            bases = (self.error_class(base, kind.package) for base in others)
            base = next((base for base in bases if base is not None), None)
            if base is not None:
                code = base.exit_code if kind.exit_code is None else kind.exit_code
                return kind._replace(advice=kind.advice or base.advice, exit_code=code)
        return None

    def messages(self) -> list[Message]:
        """Return every message, by class and text; each text occurs once a class."""
        found: dict[tuple[str, str], Message] = {}
        for message in (message for name in self.modules for message in self._messages(name)):
            key = (message.kind.name, message.text)
            if key not in found or not found[key].advice:
                found[key] = message
        return [found[key] for key in sorted(found, key=lambda key: (key[0], key[1].lower()))]

    def _messages(self, module: str) -> Iterator[Message]:
        package = _package(module)
        makers = {
            maker.name: maker
            for other, maker in self._makers
            if other == module or (_package(other) == package and not maker.name.startswith("_"))
        }
        inside = {id(node): maker for maker in makers.values() for node in ast.walk(maker)}
        for call in _calls(self.modules[module]):
            maker, called = inside.get(id(call)), makers.get(_called(call))
            kind = self.error_class(_called(call), package)
            if kind is None and called is not None and called is not maker:
                kind = self._made_by_variable(called, package, makers)
            if kind is None or kind.name.startswith("_"):
                continue  # it makes no error, or one that no user sees
            given = [] if maker is None else self._given(maker, call.args[0], module)
            for text, advice in given or [(text, "") for text in self.texts(call.args[0])]:
                if re.search("[a-z]{3}", text):  # else there is no wording, only a placeholder
                    yield Message(kind, text, advice or self._advice(call), module)

    def _made_by_variable(
        self, maker: Function, package: str, makers: Collection[str]
    ) -> ErrorClass | None:
        """Return the class that `maker` returns, if neither it nor another maker is named in it."""
        called = {_called(call) for call in _calls(maker)}
        named = called & set(makers) or any(self.error_class(name, package) for name in called)
        return None if named else self.error_class(_returned(maker), package)

    def _given(self, maker: Function, text: ast.expr, module: str) -> list[tuple[str, str]]:
        """Return the texts, and the advice, of an error in `maker` with what its callers pass."""
        names = [arg.arg for arg in maker.args.args if arg.arg != "self"]
        used = {node.id for node in ast.walk(text) if isinstance(node, ast.Name)}
        place = next((place for place, name in enumerate(names) if name in used), None)
        return [
            (whole, self._advice(call))
            for call in _calls(self.modules[module])
            if place is not None and _called(call) == maker.name and len(call.args) > place
            if isinstance(call.args[place], ast.Constant | ast.JoinedStr)
            for part in self.texts(call.args[place])
            for whole in self.texts(text, {names[place]: part})
        ]

    def _advice(self, call: ast.Call) -> str:
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        for name, before in (("next_step", ""), ("expected", "Expected: ")):
            text = " / ".join(self.texts(given[name])) if name in given else ""
            if text:
                return before + text if re.search("[a-z]{3}", text) else SAYS_ITSELF
        return ""

    def texts(self, node: ast.expr, known: dict[str, str] | None = None) -> list[str]:
        """Return what an expression of text can be: what is filled in stands in capitals."""
        if isinstance(node, ast.IfExp):
            return [*self.texts(node.body, known), *self.texts(node.orelse, known)]
        if isinstance(node, ast.Constant):
            return [] if node.value is None else [str(node.value)]
        if isinstance(node, ast.JoinedStr):
            parts = (self.texts(value, known)[:1] for value in node.values)
            return ["".join(text for part in parts for text in part)]
        if isinstance(node, ast.FormattedValue):
            return self.texts(node.value, known)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return ["".join((self.texts(node.left, known) + self.texts(node.right, known))[:2])]
        name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "…")
        default = name.strip("_").replace("_", " ").upper()
        constant = self.constants.get(name) if isinstance(node, ast.Name) else None
        return [(known or {}).get(name) or constant or default]


def _constants(body: Iterable[ast.stmt]) -> Iterator[tuple[str, str]]:
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            yield from ((name, str(node.value.value)) for name in names)


def _error_class(package: str, node: ast.ClassDef) -> ErrorClass:
    meaning, _, advice = (ast.get_docstring(node) or "").partition("\n\n")
    code = dict(_constants(node.body)).get("exit_code")
    bases = tuple(base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
                  for base in node.bases)  # fmt: skip
    advice = "" if node.name == BASE else advice.partition("\n\n")[0]
    return ErrorClass(
        package,
        node.name,
        bases,
        " ".join(meaning.split()),
        " ".join(advice.split()),
        None if code is None else int(code),
    )


def _package(module: str) -> str:
    return module.partition(".")[0]


def _returned(function: Function) -> str:
    return "" if function.returns is None else ast.unparse(function.returns).rpartition(".")[2]


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args)


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


# --- the page -------------------------------------------------------------------------------------


def tables(messages: Iterable[Message]) -> str:
    """Return a section of Markdown for each class of errors, with a row for each message."""
    by_class: dict[ErrorClass, list[Message]] = {}
    for message in messages:
        by_class.setdefault(message.kind, []).append(message)
    return "\n".join(line for kind, rows in by_class.items() for line in _section(kind, rows))


def _section(kind: ErrorClass, rows: Iterable[Message]) -> Iterator[str]:
    yield from [f"## {kind.name}", "", f"`{kind.package}`, exit code {kind.exit_code}.", ""]
    yield from [_markdown(text) + "\n" for text in (kind.meaning, kind.advice) if text]
    yield from ["| Message | What to do | Module |", "| --- | --- | --- |"]
    for row in rows:
        yield f"| {_markdown(row.text)} | {_markdown(row.advice)} | `{row.module}` |"
    yield ""


def _markdown(text: str) -> str:
    escaped = re.sub(r"([\\|*_<>\[\]#])", r"\\\1", " ".join(text.split()))
    return re.sub(r"`[^`]*`", lambda match: match[0].replace("\\", ""), escaped)


if __name__ == "__main__":
    print(tables(Sources().messages()))
