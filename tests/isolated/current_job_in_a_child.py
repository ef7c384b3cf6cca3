"""A job that forks is a job in the child too, where nobody can ask it to stop."""

from __future__ import annotations

from forking import in_child_of_a_thread
from support import WAIT

import fastpool

pool = fastpool.Pool(1)


def fork_it(ask_first: bool) -> None:
    before = fastpool.current_job() if ask_first else None

    def child() -> None:
        job = fastpool.current_job()
        assert job is not None and not job.cancelled
        assert job.remaining() is None or job.remaining() > 0
        job.check()
        assert before is None or before.id == job.id
        with fastpool.Pool(1) as own:
            assert own.submit(fastpool.current_job).result(WAIT).id != job.id

    in_child_of_a_thread(child)
    assert fastpool.current_job() is not None


for view in (pool, pool.options(timeout=600)):
    for ask_first in (False, True):
        view.submit(fork_it, ask_first).result(WAIT * 2)
assert pool.shutdown()
print("ok")
