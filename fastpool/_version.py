"""The version, where setup can read it without building."""

__version__ = "0.1.0"
