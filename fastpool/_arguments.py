"""Checking arguments: a clear error that names the argument and says what was expected."""

from __future__ import annotations

import operator

from fastpool import _core


def integer(value, name: str, least: int, most: int) -> int:
    """`value` as an int from `least` to `most`; TypeError and ValueError say `name`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    if number > most:
        raise ValueError(f"{name} must be at most {most}, got {number}")
    return number


def function(value, name: str = "fn"):
    """`value`, which must be callable."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {type(value).__name__}")
    return value


def choice(value, name: str, choices: tuple[str, ...]) -> str:
    """`value`, which must be one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def seconds(value, name: str):
    """`value`, a time in seconds or None: not NaN, not negative."""
    _core.duration_from(value, name)
    return value
