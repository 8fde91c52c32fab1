"""Plain data (TOML, JSON, ``--set key=value``) to frozen dataclasses, strictly.

Unknown keys are refused with the nearest known one, values must have the field's type (an int is a float, but
nothing else is converted), numbers must be finite. Every error is a UsageError that names the key.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from psdbench.errors import UsageError, unknown

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Make a dataclass of `values`; `where` names them in errors (``psd``, ``optimize``, ``job.json``)."""
    known = _fields(cls)  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise unknown("parameter", str(key), known, where)
    converted = {key: convert(value, known[key], f"{where}.{key}") for key, value in values.items()}
    try:
        return cls(**converted)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: {error}", "change the value, or leave it out for the default") from error


@lru_cache(maxsize=256)
def _fields(cls: type[Any]) -> Mapping[str, Any]:
    """The types of a dataclass's parameters by name: a report of thousands of jobs asks for the same few."""
    hints = get_type_hints(cls)
    return types.MappingProxyType({f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init})


def convert(value: Any, hint: Any, where: str) -> Any:
    """Check a value against a type hint and return it in that type; raises UsageError naming `where`."""
    origin, options = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is Literal:
        return _one_of(value, options, where)
    if origin in (Union, types.UnionType):
        return _any_of(value, options, where)
    if origin in (tuple, list) and isinstance(value, list | tuple):
        inner = options[0] if options else Any
        return origin(convert(item, inner, f"{where}[{i}]") for i, item in enumerate(value))
    if (origin or hint) is dict and isinstance(value, Mapping):
        return dict(value)
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return build(hint, value, where)  # type: ignore[arg-type]
    return _scalar(value, origin or hint, where)


def parse(text: str, hint: Any, where: str) -> Any:
    """Read the text of ``--set key=TEXT`` as the hinted type; lists are comma-separated, none is ``none``."""
    if get_origin(hint) in (Union, types.UnionType):
        if type(None) in get_args(hint) and text.lower() == "none":
            return None
        hints = [h for h in get_args(hint) if h is not type(None)]
        return parse(text, hints[0], where) if len(hints) == 1 else convert(text, hint, where)
    if get_origin(hint) in (tuple, list):
        inner = get_args(hint)[0] if get_args(hint) else str
        return convert([parse(part, inner, where) for part in text.split(",")], hint, where)
    if get_origin(hint) is Literal:
        match = [option for option in get_args(hint) if str(option) == text]
        return match[0] if match else _one_of(text, get_args(hint), where)
    if hint is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if hint in (int, float):
        return convert(_number(text, hint, where), hint, where)
    return convert(text, hint, where)


def _number(text: str, hint: type, where: str) -> int | float:
    try:
        return hint(text)  # type: ignore[no-any-return]
    except ValueError:
        raise _wrong(text, hint, where) from None


def _scalar(value: Any, hint: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if hint is None or hint is type(None):
        accepted = value is None
    else:
        accepted = isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    if not accepted:
        raise _wrong(value, hint, where)
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{where} must be a finite number, not {value}", "give an ordinary number")
    return value


def _one_of(value: Any, options: tuple[Any, ...], where: str) -> Any:
    if any(value == option and type(value) is type(option) for option in options):
        return value
    if isinstance(value, str):
        raise unknown("value", value, map(str, options), where)
    raise UsageError(f"{where} cannot be {value!r}", f"one of: {', '.join(map(str, options))}")


def _any_of(value: Any, hints: tuple[Any, ...], where: str) -> Any:
    for hint in hints:
        try:
            return convert(value, hint, where)
        except UsageError:
            continue
    raise _wrong(value, " or ".join(_name(h) for h in hints), where)


def _wrong(value: Any, hint: Any, where: str) -> UsageError:
    remedy = "change the value, or leave it out for the default"
    return UsageError(f"{where} must be {_name(hint)}, not {value!r}", remedy)


def _name(hint: Any) -> str:
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", dict: "a table"}
    if isinstance(hint, str):
        return hint
    if dataclasses.is_dataclass(hint):
        return "a table"
    return "none" if hint is type(None) else words.get(hint, getattr(hint, "__name__", str(hint)))
