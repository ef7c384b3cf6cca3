"""The workers as threads of the program: names, thread-local values, contexts, and what `threading` knows of them."""

from __future__ import annotations

import contextvars
import gc
import sys
import threading
from collections.abc import Callable

import pytest
from support import WAIT, reached

import fastpool

MakePool = Callable[..., fastpool.Pool]
var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="default")


def names(pool: fastpool.Pool, workers: int) -> set[str]:
    barrier = threading.Barrier(workers)

    def name() -> str:
        barrier.wait(WAIT)
        return threading.current_thread().name

    return {future.result(WAIT) for future in [pool.submit(name) for _ in range(workers)]}


def test_workers_are_named_by_prefix_and_number(make_pool: MakePool) -> None:
    assert names(make_pool(3, "mine"), 3) == {"mine_0", "mine_1", "mine_2"}
    assert names(make_pool(2, thread_name_prefix="two"), 2) == {"two_0", "two_1"}


def test_pools_without_a_prefix_have_names_of_their_own(make_pool: MakePool) -> None:
    one, other = names(make_pool(2), 2), names(make_pool(2), 2)
    assert len(one | other) == 4


@pytest.mark.parametrize("prefix", [5, b"x", ["x"]])
def test_a_prefix_is_a_string(prefix: object) -> None:
    with pytest.raises(TypeError, match="thread_name_prefix"):
        fastpool.Pool(1, prefix)  # type: ignore[arg-type]


def test_a_name_may_be_any_text(make_pool: MakePool) -> None:
    for prefix in ("é漢字🐍", "a" * 1000, "with space", "%s%n"):
        assert names(make_pool(1, prefix), 1) == {f"{prefix}_0"}


def test_thread_local_values_last_from_job_to_job(make_pool: MakePool) -> None:
    local = threading.local()

    def count() -> int:
        local.n = getattr(local, "n", 0) + 1
        return local.n

    pool = make_pool(1)
    assert [pool.submit(count).result(WAIT) for _ in range(20)] == list(range(1, 21))
    assert list(pool.map(lambda _: count(), range(5))) == list(range(21, 26))


def test_thread_local_values_go_with_the_pool() -> None:
    local, gone = threading.local(), threading.Event()

    class Mark:
        def __del__(self) -> None:
            gone.set()

    with fastpool.Pool(1) as pool:
        pool.submit(lambda: setattr(local, "mark", Mark())).result(WAIT)
        assert not gone.is_set()
    reached(gone)


def test_a_job_does_not_see_its_submitters_context(single: fastpool.Pool) -> None:
    """As with the standard executors, whatever the interpreter does for new threads."""
    single.submit(int).result(WAIT)
    token = var.set("submitter's")
    try:
        if getattr(sys.flags, "thread_inherit_context", 0):
            pytest.skip("this interpreter's threads inherit the context of who starts them")
        assert single.submit(var.get).result(WAIT) == "default"
        assert list(single.map(lambda _: var.get(), [0])) == ["default"]
        assert single.submit(contextvars.copy_context().run, var.get).result(WAIT) == "submitter's"
    finally:
        var.reset(token)


def test_a_job_has_one_identity_throughout(single: fastpool.Pool) -> None:
    def same() -> bool:
        return threading.current_thread() is threading.current_thread() and (
            threading.get_ident() == threading.current_thread().ident
        )

    assert single.submit(same).result(WAIT)
    assert len({single.submit(threading.get_native_id).result(WAIT) for _ in range(5)}) == 1
    assert not single.submit(lambda: threading.current_thread() is threading.main_thread()).result(WAIT)


def test_workers_count_as_daemons_for_the_program_ends_without_asking_threading(single: fastpool.Pool) -> None:
    assert single.submit(lambda: threading.current_thread().daemon).result(WAIT)


def test_threading_forgets_the_workers_of_ended_pools() -> None:
    """Before 3.13 it kept its stand-in for a foreign thread for ever."""
    fastpool.Pool(1).shutdown()
    gc.collect()
    before = threading.active_count(), len(threading._active)  # type: ignore[attr-defined]
    for _ in range(30):
        with fastpool.Pool(3) as pool:
            names(pool, 3)
    gc.collect()
    assert (threading.active_count(), len(threading._active)) == before  # type: ignore[attr-defined]


def test_a_job_may_start_and_join_threads(pool: fastpool.Pool) -> None:
    def job() -> list[int]:
        ran: list[int] = []
        thread = threading.Thread(target=ran.append, args=(1,))
        thread.start()
        thread.join(WAIT)
        return ran

    assert pool.submit(job).result(WAIT) == [1]


def test_any_thread_may_submit_and_wait(make_pool: MakePool) -> None:
    pool = make_pool(2)
    sums: list[int] = []

    def run() -> None:
        sums.append(sum(pool.submit(int, "1").result(WAIT) for _ in range(100)))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert sums == [100] * 8


def test_the_main_thread_is_not_starved_by_jobs_made_in_c(single: fastpool.Pool) -> None:
    """Builtins never pass the interpreter's check for threads that wait; the pool lets them in all the same."""
    stop = threading.Event()

    def again(_: object = None) -> None:
        if not stop.is_set():
            single.submit(int).add_done_callback(again)

    futures = single.submit_many(sum, [range(100)] * 20_000)
    turns = 0
    while not futures[-1].done():
        turns += 1
    assert turns > 1
    again()
    stop.set()
    assert single.wait_idle(WAIT)
