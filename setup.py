"""Builds the one extension module: csrc (plain C), the C half of the bridge, and the Cython half."""

import glob
import os
import shlex

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

DIRECTIVES = {
    "language_level": "3",
    "freethreading_compatible": True,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "embedsignature": True,
}

extension = Extension(
    "fastpool._core",
    sources=["fastpool/_core.pyx", *sorted(glob.glob("fastpool/_*.c")), *sorted(glob.glob("csrc/*.c"))],
    depends=[*glob.glob("fastpool/*.h"), *glob.glob("fastpool/*.px[di]"), *glob.glob("csrc/*.h")],
    include_dirs=["csrc", "fastpool", numpy.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
    extra_compile_args=["-std=gnu11", "-O3", "-fvisibility=hidden", *shlex.split(os.environ.get("FASTPOOL_CFLAGS", ""))],
    extra_link_args=shlex.split(os.environ.get("FASTPOOL_LDFLAGS", "")),
)
extension.sources = [source for source in extension.sources if source != "fastpool/_core.c"]

setup(ext_modules=cythonize([extension], compiler_directives=DIRECTIVES, show_all_warnings=True))
