"""Builds the one extension module: csrc (plain C), the C half of the bridge, and the Cython half."""

import glob
import os
import shlex
import subprocess
import sysconfig

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
    "auto_pickle": False,
}


def link_time_optimisation():
    """Flags that let the C files be inlined into each other: a run of Python jobs is a quarter faster with gcc's. Other
    compilers need a linker plug-in for it, which a fresh machine may lack. FASTPOOL_LTO=0 turns it off."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if os.environ.get("FASTPOOL_LTO") == "0":
        return []
    try:
        version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []  # the build proper will say what is wrong with the compiler
    return ["-flto=auto"] if "Free Software Foundation" in version else []


OPTIMISE = ["-O3", *link_time_optimisation()]

extension = Extension(
    "fastpool._core",
    sources=["fastpool/_core.pyx", *sorted(glob.glob("fastpool/_*.c")), *sorted(glob.glob("csrc/*.c"))],
    depends=[
        *glob.glob("fastpool/*.h"),
        *glob.glob("fastpool/include/*.h"),
        *glob.glob("fastpool/*.px[di]"),
        *glob.glob("csrc/*.h"),
    ],
    include_dirs=["csrc", "fastpool", "fastpool/include", numpy.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
    extra_compile_args=[
        "-std=gnu11",
        *OPTIMISE,
        "-fvisibility=hidden",
        *shlex.split(os.environ.get("FASTPOOL_CFLAGS", "")),
    ],
    extra_link_args=[*OPTIMISE, *shlex.split(os.environ.get("FASTPOOL_LDFLAGS", ""))],
)
extension.sources = [source for source in extension.sources if source != "fastpool/_core.c"]

setup(ext_modules=cythonize([extension], compiler_directives=DIRECTIVES, show_all_warnings=True))
