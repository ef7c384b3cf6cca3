"""Showing figures: a few digits, and a unit that fits."""

from __future__ import annotations

_TIMES = ((1e9, "s"), (1e6, "ms"), (1e3, "\N{MICRO SIGN}s"))


def show(value: float | None, unit: str, *, sign: bool = False, digits: int = 3) -> str:
    """Write a figure for people.

    Parameters
    ----------
    value : float or None
        The figure; None where it could not be known.
    unit : str
        "ns" or "B".
    sign : bool, default False
        Whether a plus sign is written too.
    digits : int, default 3
        Significant digits, at least; bytes are always whole.

    Returns
    -------
    str
        As "76.0 ns", "1.23 µs", "212 B" or "n/a".

    Examples
    --------
    >>> show(1234.5, "ns")
    '1.23 µs'
    >>> show(7.25, "ns", sign=True)
    '+7.25 ns'
    >>> show(212.4, "B")
    '212 B'
    """
    if value is None:
        return "n/a"
    plus = "+" if sign else ""
    if unit == "B":
        return f"{value:{plus},.0f} B"
    for scale, name in _TIMES:
        if abs(value) >= scale:
            return f"{_rounded(value / scale, plus, digits)} {name}"
    return f"{_rounded(value, plus, digits)} ns"


def _rounded(value: float, plus: str, digits: int) -> str:
    # The exponent after rounding: 9.996 with three digits is 10.0, and not 10.00.
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    return f"{value:{plus}.{max(0, digits - 1 - max(exponent, 0))}f}"


def show_ratio(ratio: float | None) -> str:
    """Write how many times as fast, or as small, something is.

    Parameters
    ----------
    ratio : float or None
        The ratio; None where there is none.

    Returns
    -------
    str
        The number with a multiplication sign, or nothing.

    Examples
    --------
    >>> show_ratio(0.00314).rstrip("\N{MULTIPLICATION SIGN}")
    '0.003'
    """
    if ratio is None:
        return ""
    number = f"{ratio:.1g}" if 0.0001 <= ratio < 0.01 else _rounded(ratio, "", 3)
    return f"{number}\N{MULTIPLICATION SIGN}"
