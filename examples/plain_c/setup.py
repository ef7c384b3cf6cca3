"""One extension module in C; what it needs of fastpool is the header's directory."""

from setuptools import Extension, setup

import fastpool

setup(
    ext_modules=[
        Extension(
            "plainc._plainc",
            sources=["plainc/_plainc.c"],
            include_dirs=[fastpool.get_include()],
            extra_compile_args=["-std=c11", "-O2"],
        )
    ]
)
