"""The one exception that a subcommand turns into one line on stderr and an exit code."""

from __future__ import annotations


class CommandError(Exception):
    """A subcommand cannot go on, and the user can see why from one line.

    Parameters
    ----------
    message : str
        What is wrong; line breaks in it become spaces.
    exit_code : int, default 2
        2: refused before anything was done; 1: failed while working.
    """

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(" ".join(message.split()))
        self.exit_code = exit_code
