"""Convert reports to JSON and back, by the type annotations in `parity_tests.model`.

JSON has no NaN and no infinity. Where the model has a float, they are written as "NaN", "Infinity"
and "-Infinity"; in a gate's details, which may also hold text, as an object: ``{"number": "NaN"}``.
`schema` derives the JSON Schema from the same annotations.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from facenet_common.errors import ParityError
from parity_tests.model import SCHEMA, ParityReport
from parity_tests.report.words import line

NONFINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
# For readers of the JSON without this package; `from_json` computes them again.
DERIVED = {
    "schema": {"const": SCHEMA},
    "passed": {"type": "boolean"},
    "headline": {"type": "string"},
}


def to_json(report: ParityReport) -> dict[str, Any]:
    """Convert a report to an object for `json.dumps`, without NaN or infinity.

    Examples:
        >>> from_json(to_json(report)) == report
        True
    """
    data: dict[str, Any] = {"schema": SCHEMA, "passed": report.passed, "headline": report.headline}
    data.update(_encode(report, ParityReport))
    return data


def from_json(data: object) -> ParityReport:
    """Convert the object that `to_json` returned back to a report.

    Raises:
        ParityError: The schema version differs, a key is missing or unknown, a value has the wrong
            type, or the verdict contradicts the gates.
    """
    if not isinstance(data, dict) or "schema" not in data:
        raise ParityError(
            "this is not a parity report",
            expected=f'a JSON object with "schema": "{SCHEMA}"',
            next_step="name a file that facenet verify --json wrote",
        )
    if data["schema"] != SCHEMA:
        raise ParityError(
            "the parity report has a schema version that this facenet-parity can't read",
            expected=SCHEMA,
            found=line(data["schema"]),
            next_step="install the version of facenet-parity that wrote it, or verify again",
        )
    fields = {key: value for key, value in data.items() if key not in DERIVED}
    report: ParityReport = _decode(fields, ParityReport, "report")
    if data.get("passed") is not report.passed:
        _refuse("report.passed", f"{report.passed}, by its gates", data.get("passed"))
    return report


def schema() -> dict[str, Any]:
    """Return the JSON Schema of `to_json`; a copy is stored beside this module."""
    definitions: dict[str, Any] = {
        "float": {"anyOf": [{"type": "number"}, {"enum": list(NONFINITE)}]},
        "nonfinite": {
            "type": "object",
            "properties": {"number": {"enum": list(NONFINITE)}},
            "required": ["number"],
            "additionalProperties": False,
        },
    }
    top = _describe(ParityReport, definitions)
    body = definitions.pop(ParityReport.__name__)
    assert top == {"$ref": "#/$defs/ParityReport"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SCHEMA,
        "type": "object",
        "properties": DERIVED | body["properties"],
        "required": [*DERIVED, *body["required"]],
        "additionalProperties": False,
        "$defs": dict(sorted(definitions.items())),
    }


def _encode(value: Any, hint: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        hints = get_type_hints(hint)
        return {f.name: _encode(getattr(value, f.name), hints[f.name]) for f in _fields(hint)}
    if _is_union(hint):
        if value is None or isinstance(value, str):
            return value if value is None else str(value)
        if type(None) in get_args(hint):
            return _encode(value, _present(hint))
        return _encode_scalar(value)
    if get_origin(hint) is tuple:
        return [_encode(item, h) for item, h in zip(value, _items(hint, len(value)), strict=True)]
    if get_origin(hint) is Mapping:
        return {str(key): _encode(item, get_args(hint)[1]) for key, item in value.items()}
    if hint is float:
        return _encode_float(value)
    return value if get_origin(hint) is Literal else hint(value)


def _encode_float(value: float) -> float | str:
    value = float(value)
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _encode_scalar(value: Any) -> Any:
    if isinstance(value, Integral):
        return int(value)
    if not isinstance(value, Real):
        raise TypeError(f"a gate's details hold numbers and text, not {type(value).__name__}")
    coded = _encode_float(float(value))
    return {"number": coded} if isinstance(coded, str) else coded


def _decode(value: Any, hint: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _decode_object(value, hint, where)
    if _is_union(hint):
        if type(None) in get_args(hint):
            return None if value is None else _decode(value, _present(hint), where)
        return _decode_scalar(value, where)
    if get_origin(hint) is tuple:
        return _decode_tuple(value, hint, where)
    if get_origin(hint) is Mapping:
        if not isinstance(value, dict):
            _refuse(where, "an object", value)
        return {k: _decode(v, get_args(hint)[1], f"{where}.{k}") for k, v in value.items()}
    if get_origin(hint) is Literal:
        if not isinstance(value, str) or value not in get_args(hint):
            _refuse(where, "one of " + ", ".join(get_args(hint)), value)
        return value
    if hint is float:
        return _decode_float(value, where)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        _refuse(where, {int: "an integer", str: "a string", bool: "true or false"}[hint], value)
    return value


def _decode_object(value: Any, hint: Any, where: str) -> Any:
    if not isinstance(value, dict):
        _refuse(where, "an object", value)
    names = [field.name for field in _fields(hint)]
    for missing in (name for name in names if name not in value):
        _refuse(f"{where}.{missing}", "a value", "nothing")
    for unknown in (key for key in value if key not in names):
        _refuse(where, "the keys " + ", ".join(names), unknown)
    hints = get_type_hints(hint)
    return hint(**{name: _decode(value[name], hints[name], f"{where}.{name}") for name in names})


def _decode_tuple(value: Any, hint: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        _refuse(where, "a list", value)
    hints = _items(hint, len(value))
    if len(hints) != len(value):
        _refuse(where, f"{len(hints)} items", value)
    pairs = zip(value, hints, strict=True)
    return tuple(_decode(item, h, f"{where}[{i}]") for i, (item, h) in enumerate(pairs))


def _decode_float(value: Any, where: str) -> float:
    if isinstance(value, str) and value in NONFINITE:
        return NONFINITE[value]
    try:
        coded = float(value) if isinstance(value, (int, float)) else math.nan
    except OverflowError:
        coded = math.inf
    if isinstance(value, bool) or not math.isfinite(coded):
        _refuse(where, "a finite number, or one of " + ", ".join(NONFINITE), value)
    return coded


def _decode_scalar(value: Any, where: str) -> float | int | str:
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, dict) and set(value) == {"number"} and isinstance(value["number"], str):
        return _decode_float(value["number"], where)
    return _decode_float(None if isinstance(value, str) else value, where)


def _refuse(where: str, expected: str, found: object) -> NoReturn:
    raise ParityError(
        f"the parity report is damaged at {line(where, 200)}",
        expected=expected,
        found=line(found, 200),
        next_step="verify again to write it anew",
    )


def _describe(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of one type; add those of its dataclasses to `definitions`."""
    if dataclasses.is_dataclass(hint):
        name = hint.__name__  # type: ignore[union-attr] # a class, not an instance
        if name not in definitions:
            hints = get_type_hints(hint)
            definitions[name] = {
                "type": "object",
                "properties": {
                    f.name: _describe(hints[f.name], definitions) for f in _fields(hint)
                },
                "required": [f.name for f in _fields(hint)],
                "additionalProperties": False,
            }
        return {"$ref": f"#/$defs/{name}"}
    if _is_union(hint):
        if type(None) in get_args(hint):
            return {"anyOf": [_describe(_present(hint), definitions), {"type": "null"}]}
        return {"anyOf": [{"type": ["number", "string"]}, {"$ref": "#/$defs/nonfinite"}]}
    if get_origin(hint) is tuple:
        arguments = get_args(hint)
        if Ellipsis in arguments:
            return {"type": "array", "items": _describe(arguments[0], definitions)}
        items = [_describe(argument, definitions) for argument in arguments]
        size = {"minItems": len(items), "maxItems": len(items)}
        return {"type": "array", "prefixItems": items, **size}
    if get_origin(hint) is Mapping:
        items_of = _describe(get_args(hint)[1], definitions)
        return {"type": "object", "additionalProperties": items_of}
    if get_origin(hint) is Literal:
        return {"enum": list(get_args(hint))}
    if hint is float:
        return {"$ref": "#/$defs/float"}
    return {"type": {int: "integer", str: "string", bool: "boolean"}[hint]}


def _fields(hint: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(hint)


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def _present(hint: Any) -> Any:
    """Return X of ``X | None``."""
    (present,) = (argument for argument in get_args(hint) if argument is not type(None))
    return present


def _items(hint: Any, length: int) -> tuple[Any, ...]:
    arguments = get_args(hint)
    return (arguments[0],) * length if Ellipsis in arguments else arguments
