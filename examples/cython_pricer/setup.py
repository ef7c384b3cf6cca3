"""One extension module; what it needs of fastpool is the header's directory, and cimport finds the .pxd by itself."""

from Cython.Build import cythonize
from setuptools import Extension, setup

import fastpool

extension = Extension(
    "montecarlo._paths",
    sources=["montecarlo/_paths.pyx"],
    include_dirs=[fastpool.get_include()],
    extra_compile_args=["-O3"],
)

setup(ext_modules=cythonize([extension], compiler_directives={"language_level": "3", "freethreading_compatible": True}))
