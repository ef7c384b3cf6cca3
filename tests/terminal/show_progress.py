"""map_array with a bar on stderr, stopped half way until a line comes on stdin or Ctrl-C: ``ufunc|kernel rich|plain|off``."""

from __future__ import annotations

import ctypes
import importlib.util
import signal
import sys
import threading
from typing import Any

import numpy as np
from support import reached

import fastpool

what, look = sys.argv[1:]
opened = threading.Event()


def on_interrupt(*_: object) -> None:
    if what == "ufunc":  # whose map_array waits for what is under way
        opened.set()
    raise KeyboardInterrupt


began = []


def wait_half_way(x: float) -> float:
    began.append(x)
    if x == 2:
        reached(opened)
    return -x


def read_line() -> None:
    if sys.stdin.readline():
        opened.set()


if look == "plain":
    importlib.util.find_spec = lambda *_: None
signal.signal(signal.SIGINT, on_interrupt)
threading.Thread(target=read_line, daemon=True).start()
kernel: Any = np.frompyfunc(wait_half_way, 1, 1)
if what == "kernel":
    kernel = fastpool.kernel(ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(wait_half_way))
with fastpool.Pool(1) as pool:
    try:
        print(pool.map_array(kernel, np.arange(4.0), grain=1, progress=look != "off").tolist())
    except KeyboardInterrupt:
        opened.set()
        pool.shutdown()
        # A ufunc's next chunk may have begun between this interrupt and its end of the array.
        print("interrupted" if what == "ufunc" else f"interrupted, {len(began)} began")
