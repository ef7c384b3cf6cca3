"""Opening .npy files as memory maps, and writing one that appears whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib import format as npy

from fastpool.cli.errors import CommandError

Array = np.ndarray[Any, np.dtype[Any]]


def _check_is_npy(path: str) -> None:
    try:
        with open(path, "rb") as file:
            magic = file.read(len(npy.MAGIC_PREFIX))
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
    if magic != npy.MAGIC_PREFIX:
        raise CommandError(f"{path}: not an .npy file")


def open_input(path: str, dtype: np.dtype[Any]) -> Array:
    """Map an .npy file whose elements a kernel can take.

    Parameters
    ----------
    path : str
        The file.
    dtype : numpy.dtype
        What the kernel takes; the file's own dtype must cast to it safely.

    Returns
    -------
    ndarray
        A read-only view of the file, in C order, of the file's own dtype.

    Raises
    ------
    CommandError
        If the file is missing, is no .npy file, is cut short, is in Fortran order, or holds
        objects, records or numbers that do not cast safely.
    """
    _check_is_npy(path)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise CommandError(f"{path}: cannot be mapped: {error}") from error
    if array.dtype.names is not None:
        raise CommandError(f"{path}: holds records, and a kernel takes plain {dtype} numbers")
    if not np.can_cast(array.dtype, dtype, "safe"):
        raise CommandError(f"{path}: {array.dtype} does not cast safely to the kernel's {dtype}")
    if not array.flags.c_contiguous:
        raise CommandError(f"{path}: is in Fortran order; save it with numpy.ascontiguousarray")
    return np.asarray(array)


def check_output(path: str, inputs: list[str]) -> str:
    """Refuse an output that cannot be put in place at the end.

    Parameters
    ----------
    path : str
        Where the output goes.
    inputs : list of str
        The files that are read, all of which exist.

    Returns
    -------
    str
        The path with symbolic links followed, so that a link is kept and its target replaced.

    Raises
    ------
    CommandError
        If the folder is missing, the path is no regular file, or it is one of the inputs.
    """
    target = os.path.realpath(path)
    if not os.path.isdir(os.path.dirname(target)):
        raise CommandError(f"{path}: its folder does not exist")
    if os.path.exists(target):
        if not os.path.isfile(target):
            raise CommandError(f"{path}: is not a regular file")
        for name in inputs:
            if os.path.samefile(target, name):
                raise CommandError(f"{path}: the output is the same file as the input {name}")
    return target


def _reserve(path: str) -> None:
    """Take the disk space now: a full disk under a memory map is a fatal signal, not an error."""
    if not hasattr(os, "posix_fallocate"):
        return
    with open(path, "r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))
        except OSError as error:
            # The file system cannot reserve: no reason to refuse work that may well fit.
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise


@contextlib.contextmanager
def new_file(target: str) -> Iterator[str]:
    """Make a temporary file beside `target` that takes its name when the block succeeds.

    Parameters
    ----------
    target : str
        The final name; whatever has it is replaced at once, or kept when the block fails.

    Yields
    ------
    str
        The temporary file's path.

    Raises
    ------
    CommandError
        If the file cannot be made, reserved or renamed.
    """
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".{name}.{secrets.token_hex(4)}.tmp")
    try:
        # "x": never an existing file, and the permissions that the user's umask gives.
        with open(temporary, "xb"):
            pass
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise CommandError(f"{target}: {error.strerror or error}", exit_code=1) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def create_output(path: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Write an .npy header and map the array that follows it.

    Parameters
    ----------
    path : str
        An existing file, which is overwritten.
    dtype : numpy.dtype
        The array's dtype.
    shape : tuple of int
        The array's shape.

    Returns
    -------
    numpy.memmap
        Writable, in C order; its disk space is reserved where the system can.

    Raises
    ------
    OSError
        If the disk is full.
    """
    array = npy.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    _reserve(path)
    return array
