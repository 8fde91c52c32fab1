"""Strict reading: types are kept, unknown keys and wrong values are named."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psdbench.errors import UsageError
from psdbench.strict import build, parse


@dataclass(frozen=True)
class Inner:
    size: int = 1


@dataclass(frozen=True)
class Example:
    steps: int = 1
    scale: float = 1.0
    flag: bool = False
    name: str = "x"
    mode: Literal["a", "b"] = "a"
    maybe: int | None = None
    numbers: tuple[float, ...] = ()
    inner: Inner = Inner()

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError("steps must not be negative")


def test_values_take_the_type_of_the_field() -> None:
    made = build(Example, {"scale": 2, "numbers": [1, 2.5], "inner": {"size": 3}, "maybe": 4}, "x")
    assert made == Example(scale=2.0, numbers=(1.0, 2.5), inner=Inner(3), maybe=4)
    assert type(made.scale) is float
    assert type(made.numbers[0]) is float


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 1.5}, "x.steps must be a whole number, not 1.5"),
        ({"steps": True}, "x.steps must be a whole number"),
        ({"steps": "3"}, "x.steps must be a whole number"),
        ({"scale": "fast"}, "x.scale must be a number"),
        ({"scale": float("nan")}, "x.scale must be a finite number"),
        ({"flag": 1}, "x.flag must be true or false"),
        ({"name": 1}, "x.name must be a text"),
        ({"mode": "c"}, "unknown value 'c'"),
        ({"maybe": "no"}, "x.maybe must be a whole number or none"),
        ({"numbers": [1, "two"]}, r"x.numbers\[1\] must be a number"),
        ({"inner": {"sice": 1}}, "unknown parameter 'sice' in x.inner"),
        ({"inner": 3}, "x.inner must be a table"),
        ({"steps": -1}, "x: steps must not be negative"),
    ],
)
def test_wrong_values_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(Example, values, "x")


def test_unknown_keys_get_a_suggestion() -> None:
    with pytest.raises(UsageError, match="unknown parameter 'stesp' in x") as caught:
        build(Example, {"stesp": 1}, "x")
    assert "did you mean 'steps'?" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("3", int, 3),
        ("-1e-4", float, -1e-4),
        ("True", bool, True),
        ("false", bool, False),
        ("one two", str, "one two"),
        ("b", Literal["a", "b"], "b"),
        ("none", int | None, None),
        ("4", int | None, 4),
        ("1,2.5", tuple[float, ...], (1.0, 2.5)),
    ],
)
def test_texts_of_set_are_read_as_the_field_says(text: str, hint: Any, value: Any) -> None:
    assert parse(text, hint, "x") == value


@pytest.mark.parametrize(
    ("text", "hint"),
    [("3.5", int), ("x", float), ("inf", float), ("yes", bool), ("c", Literal["a", "b"]), ("x", int | None)],
)
def test_texts_that_do_not_fit_are_refused(text: str, hint: Any) -> None:
    with pytest.raises(UsageError, match=r"x |unknown value"):
        parse(text, hint, "x")


@given(
    st.dictionaries(
        st.text(max_size=8), st.none() | st.integers() | st.floats() | st.text() | st.lists(st.integers())
    )
)
def test_any_table_is_built_or_refused(values: dict[str, Any]) -> None:
    with contextlib.suppress(UsageError):
        assert build(Example, values, "x").steps >= 0
