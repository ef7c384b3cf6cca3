"""Which pools an exporter watches, by name; they live and die as if nobody did. For `prometheus` and `opentelemetry`."""

from __future__ import annotations

import threading
import time
import weakref

from fastpool.errors import PoolError
from fastpool.metrics import Metrics
from fastpool.pool import Pool

__all__ = ["Watched", "Watchlist"]

# Seconds after which a pool that is still being read counts as there. A reading takes microseconds, if the thread may run.
_READING = 5.0

# And one that nobody reads. Without the GIL an object outlives its last reference for as long as it takes the thread that
# made it to hear of that.
_LETTING_GO = 0.02


class Watched:
    """One pool under the name that an exporter gives it."""

    def __init__(self, pool: Pool, name: str):
        self.name = name
        self.pool = weakref.ref(pool)
        self._readers: set[object] = set()

    def metrics(self) -> Metrics | None:
        """A snapshot; None: the pool is gone, or the parent's and this is a forked child."""
        reader = object()
        self._readers.add(reader)
        try:
            return self._read()
        finally:
            self._readers.discard(reader)

    def _read(self) -> Metrics | None:
        pool = self.pool()
        try:
            return None if pool is None else pool.metrics()
        except PoolError:
            return None

    def is_gone(self) -> bool:
        """Whether there is nothing to read, and will not be once those who are reading let go of the pool."""
        start = time.monotonic()
        while self.metrics() is not None:
            waited = time.monotonic() - start
            if waited > (_READING if self._readers else _LETTING_GO):
                return False
            time.sleep(1e-4)
        return True


class Watchlist:
    """The pools of one exporter; no two have one name."""

    def __init__(self) -> None:
        self._watched: dict[str, Watched] = {}
        # Reentrant: a collection inside may run a destructor that adds or removes.
        self._lock = threading.RLock()

    def add(self, pool: Pool, name: str | None = None) -> Watched:
        """Watch `pool`, under `name` or its own; a second time under the same name changes nothing."""
        watched = Watched(checked(pool), named(pool, name))
        with self._lock:
            for other in list(self._watched.values()):
                same_pool, same_name = other.pool() is pool, other.name == watched.name
                # In a forked child the parent's pools are as good as gone: the child's may have their names.
                if other.pool() is None or (same_name and not same_pool and other.is_gone()):
                    del self._watched[other.name]
                elif same_pool and same_name:
                    return other
                elif same_pool:
                    raise ValueError(
                        f"name of this pool is {other.name!r} already, got {watched.name!r}: remove it first"
                    )
                elif same_name:
                    raise ValueError(f"name {other.name!r} is that of another pool: give each a name= of its own")
            self._watched[watched.name] = watched
        return watched

    def remove(self, pool: Pool) -> bool:
        """Watch `pool` no longer; False: it was not watched."""
        with self._lock:
            found = [watched for watched in self._watched.values() if watched.pool() is pool]
            for watched in found:
                self.discard(watched)
        return bool(found)

    def discard(self, watched: Watched) -> None:
        """Watch this one no longer, if it still is."""
        with self._lock:
            if self.has(watched):
                del self._watched[watched.name]

    def has(self, watched: Watched) -> bool:
        return self._watched.get(watched.name) is watched

    def read(self) -> list[tuple[Watched, Metrics]]:
        """A snapshot of each pool, in the order in which they were added."""
        # A copy in place of the lock: a child may be forked while another thread holds it.
        snapshots = [(watched, watched.metrics()) for watched in self._watched.copy().values()]
        return [(watched, metrics) for watched, metrics in snapshots if metrics is not None]


def checked(pool: Pool) -> Pool:
    """`pool`, which must be one."""
    if not isinstance(pool, Pool):
        raise TypeError(f"pool must be a fastpool.Pool, not {type(pool).__name__}")
    return pool


def named(pool: Pool, name: str | None) -> str:
    """The name that `pool` is to have; any text that can be sent."""
    if name is None:
        name = pool._thread_name_prefix
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not {type(name).__name__}")
    if not name:
        raise ValueError("name must not be empty: to Prometheus that is no name")
    try:
        name.encode()
    except UnicodeEncodeError:  # found here, else by every scrape
        raise ValueError(f"name must be text that UTF-8 can encode, got {name!r}") from None
    return name
