"""A crash in a worker shows where it was, if faulthandler is on."""

from __future__ import annotations

import ctypes
import faulthandler

import fastpool

faulthandler.enable()


def crashing_job() -> None:
    ctypes.string_at(0)


fastpool.Pool(1).submit(crashing_job).result()
