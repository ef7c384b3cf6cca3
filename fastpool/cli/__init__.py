"""The subcommands of ``python -m fastpool``, a module each, built on the public API only."""
