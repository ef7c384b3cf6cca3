"""The peers that make machine code of Python: numba and numexpr, each on two threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.peers.build import Missing
from benchmarks.peers.elements import Element
from fastpool.bench.black_scholes import Doubles

Map = Callable[[Doubles, Doubles], object]


class Numba:
    """numba, by its two ways to use all CPUs. Neither is told fastmath: the C compilers are not either.

    Raises
    ------
    Missing
        If it is not installed.
    """

    def __init__(self, threads: int) -> None:
        try:
            import numba
        except ImportError as error:
            raise Missing(f"numba: {error} (pip install numba)") from error
        numba.set_num_threads(threads)
        self._numba: Any = numba

    @property
    def version(self) -> str:
        return f"{self._numba.__version__}, its threads by {self._numba.threading_layer()}"

    def prange(self, element: Element) -> Map:
        prange = self._numba.prange
        scalar = self._numba.njit(element.scalar)

        @self._numba.njit(parallel=True)  # type: ignore[untyped-decorator]
        def loop(x: Any, out: Any) -> None:
            for i in prange(len(x)):
                out[i] = scalar(x[i])

        made: Map = loop
        return made

    def vectorize(self, element: Element) -> Map:
        ufunc = self._numba.vectorize(["float64(float64)"], target="parallel")(element.scalar)
        return lambda x, out: ufunc(x, out=out)


class Numexpr:
    """numexpr, with the expression compiled beforehand.

    Raises
    ------
    Missing
        If it is not installed.
    """

    def __init__(self, threads: int) -> None:
        try:
            import numexpr
        except ImportError as error:
            raise Missing(f"numexpr: {error} (pip install numexpr)") from error
        numexpr.set_num_threads(threads)
        self._numexpr: Any = numexpr

    @property
    def version(self) -> str:
        return str(self._numexpr.__version__)

    def map(self, expression: str) -> Map:
        compiled = self._numexpr.NumExpr(expression, [("x", self._numexpr.necompiler.double)])
        return lambda x, out: compiled(x, out=out, order="K", casting="safe", ex_uses_vml=False)
