"""The dtypes of a NumPy inner loop, whose C signature says nothing of what its pointers point to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastpool import _signatures

MOST_INPUTS = 7


def checked(dtypes: Any, signature: str) -> tuple[np.dtype[Any], ...] | None:
    """The argument `dtypes` of a kernel of `signature`: the inputs' and the output's; None for what is no inner loop.

    Raises
    ------
    TypeError
        If they are missing, given where none belong, or no dtypes.
    ValueError
        If there are too few or too many, or if one of them is not plain numbers in memory.
    """
    if signature != _signatures.INNER_LOOP:
        if dtypes is not None:
            raise TypeError(f"dtypes is for a NumPy inner loop, {_signatures.INNER_LOOP!r}; obj is {signature!r}")
        return None
    if dtypes is None:
        raise TypeError(f"dtypes is needed with {signature!r}: those of the inputs, then the output's, such as 'dd->d'")
    found = tuple(_dtype(one) for one in _listed(dtypes))
    if not 2 <= len(found) <= MOST_INPUTS + 1:
        raise ValueError(f"dtypes must be 1 to {MOST_INPUTS} inputs and one output, got {len(found)} in all")
    for one in found:
        _check_plain(one)
    return found


def _listed(dtypes: Any) -> Sequence[Any]:
    """One entry for each operand, the output last."""
    if isinstance(dtypes, str):
        inputs, arrow, output = dtypes.partition("->")
        if arrow and len(output) != 1:
            raise ValueError(f"dtypes must have one output, such as 'dd->d', got {dtypes!r}")
        return inputs + output
    if not isinstance(dtypes, Sequence) or isinstance(dtypes, (bytes, bytearray, memoryview)):
        raise TypeError(f"dtypes must be a str such as 'dd->d' or a sequence of dtypes, not {type(dtypes).__name__}")
    return dtypes


def _dtype(like: Any) -> np.dtype[Any]:
    if like is None:  # to NumPy, float64
        raise TypeError("dtypes must hold dtypes, not None")
    try:
        found: np.dtype[Any] = np.dtype(like)
    except (TypeError, ValueError) as error:
        raise TypeError(f"dtypes holds {like!r}, which is no dtype: {error}") from error
    return found


def _check_plain(dtype: np.dtype[Any]) -> None:
    """An element must be bytes that C can read, and that anybody may copy."""
    why = None
    if dtype.hasobject or dtype.kind == "T":  # a StringDType's bytes belong to their array
        why = "holds references"
    elif dtype.subdtype is not None:
        why = "is an array by itself"
    elif dtype.itemsize == 0:
        why = "has no size"
    elif not dtype.isnative:
        why = "is not in this machine's byte order"
    if why is not None:
        raise ValueError(f"dtypes holds {dtype!r}, which {why}")
