"""One extension module in C; what it needs of fastpool is the header's directory."""

import fastpool
from setuptools import Extension, setup

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
