"""What `Pool.options` returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastpool._submitter import Submitter

if TYPE_CHECKING:
    from fastpool.pool import Pool

__all__ = ["View"]


class View(Submitter):
    """A pool seen through other settings: an Executor whose jobs go to that pool. Made by `Pool.options`.

    Notes
    -----
    Thread safety: as the pool. It holds the pool, and what happens to the pool happens to it; `shutdown`, and leaving it as a
    context manager, shut the pool down.
    """

    def __init__(self, base: Submitter, given: dict[str, Any]):
        self._derive(base, given)
        self._viewed = base._pool

    @property
    def _pool(self) -> Pool:
        return self._viewed

    def shutdown(  # type: ignore[override]  # a bool where the standard one returns None
        self, wait: bool = True, *, cancel_futures: bool = False, timeout: float | None = None
    ) -> bool:
        """Shut down the pool: see `Pool.shutdown`."""
        return self._viewed.shutdown(wait, cancel_futures=cancel_futures, timeout=timeout)

    def __repr__(self) -> str:
        return f"<View of {self._viewed!r}>"
