"""Checking arguments: a clear error that names the argument and says what was expected."""

from __future__ import annotations

import contextvars
import operator
from typing import Any

from fastpool import _core


def integer(value: Any, name: str, least: int, most: int) -> int:
    """`value` as an int from `least` to `most`; TypeError and ValueError say `name`."""
    try:
        number: int = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    if number > most:
        raise ValueError(f"{name} must be at most {most}, got {number}")
    return number


def function(value: Any, name: str = "fn") -> None:
    """Check that `value` is callable."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {type(value).__name__}")


def boolean(value: Any, name: str) -> bool:
    """Check that `value` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {type(value).__name__}")
    return value


def choice(value: Any, name: str, choices: tuple[str, ...]) -> None:
    """Check that `value` is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def context(value: Any) -> Any:
    """What a job is to run in: True, a Context, or None, which stands for False too."""
    if value is None or value is False:
        return None
    if value is not True and not isinstance(value, contextvars.Context):
        raise TypeError(f"context must be a contextvars.Context, True or None, not {type(value).__name__}")
    return value


def seconds(value: Any, name: str) -> None:
    """Check that `value` is a time in seconds or None: not NaN, not negative."""
    _core.duration_from(value, name)
