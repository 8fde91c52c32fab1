"""Search spaces of `psdbench tune`: the values of a parameter that may be tried.

A range is ``LOW..HIGH`` or ``LOW..HIGH:log``, both ends included; a choice is ``a,b,c``. `spaces.toml` holds one
table per method; whatever it has no table for needs --space.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from psdbench import strict
from psdbench.defaults import read
from psdbench.errors import UsageError, unknown
from psdbench.settings import field_hint, split_setting, table_class

FORM = "give LOW..HIGH, LOW..HIGH:log, or values such as a,b,c"


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`, whole ones if the bounds are."""

    low: float
    high: float
    log: bool = False
    """whether equal ratios, not equal differences, are equally likely at first"""

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low}..{self.high}" + ":log" * self.log


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]

    def __contains__(self, value: Any) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return ",".join(str(v).lower() if v is None or isinstance(v, bool) else str(v) for v in self.values)


Dimension = Range | Choice
Space = dict[str, Dimension]
"""what may be tried, by parameter"""


def search_spaces(
    methods: Sequence[str], given: Sequence[str], fixed: Iterable[tuple[str, str]]
) -> dict[str, Space]:
    """The space of each method: that of the --space texts `given`, else its default, without what is `fixed`.

    Raises UsageError for what no space can be made of, and when nothing is left to search.
    """
    fixed, spaces = set(fixed), {name: Space() for name in methods}
    for text in given:
        table, key, value = split_setting(text, "--space", "psd.preference_scale=0.1..10:log")
        if table not in methods:
            raise _no_method(table, methods)
        if (table, key) in fixed:
            raise UsageError(f"{table}.{key} is set and searched at once", "drop its --set or its --space")
        spaces[table][key] = dimension(table, key, value)
    for name in methods:
        spaces[name] = spaces[name] or _default_space(name, fixed)
    return spaces


def dimension(table: str, key: str, text: str) -> Dimension:
    """Read one dimension in the type of its parameter; UsageError names the parameter."""
    hint, where = field_hint(table, key), f"{table}.{key}"
    low, dots, rest = text.partition("..")
    if not dots:
        values = [strict.parse(part.strip(), hint, where) for part in text.split(",")]
        if len(set(values)) < 2:
            raise UsageError(f"{where} has no choice in '{text}'", FORM)
        return Choice(tuple(dict.fromkeys(values)))
    high, _, scale = rest.partition(":")
    bounds = [strict.parse(part.strip(), hint, where) for part in (low, high)]
    if not all(isinstance(bound, int | float) for bound in bounds) or scale not in ("", "log"):
        raise UsageError(f"{where} has no range '{text}'", FORM)
    if bounds[0] >= bounds[1] or (scale and bounds[0] <= 0):
        raise UsageError(f"{where}: {text} is an empty range", "give LOW < HIGH, and for :log LOW above 0")
    return Range(bounds[0], bounds[1], bool(scale))


def _default_space(method: str, fixed: set[tuple[str, str]]) -> Space:
    texts = read("spaces")[1].get(method)
    example = f"--space {method}.KEY=LOW..HIGH"
    if texts is None:
        raise UsageError(f"method '{method}' has no search space of its own", f"give one: {example}")
    space = {key: dimension(method, key, text) for key, text in texts.items() if (method, key) not in fixed}
    if not space:
        raise UsageError(
            f"all that would be searched of '{method}' is set", f"drop a --set, or add {example}"
        )
    return space


def _no_method(table: str, methods: Sequence[str]) -> UsageError:
    """Only a method's own parameters are searched: what is shared must stay the same for all methods."""
    table_class(table)  # an unknown table has an error of its own
    problem = unknown("method", table, methods, "--space")
    return UsageError(
        f"--space names '{table}', which is not tuned here", f"{problem.remedy}; fix shared values with --set"
    )
