"""``python -m fastpool``: parse the command line and hand it to one of the subcommands."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Sequence

from fastpool.cli.errors import CommandError

# Each subcommand imports its module only when chosen: a worker process of the benchmark's
# ProcessPoolExecutor imports this file again, and needs none of them.


def _bench(options: argparse.Namespace) -> int:
    from fastpool.cli import bench

    return bench.main(options)


def _run(options: argparse.Namespace) -> int:
    from fastpool.cli import run

    return run.main(options)


def _info(options: argparse.Namespace) -> int:
    from fastpool.cli import info

    return info.main(options)


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


# argparse quotes the converter's name when int() refuses the text.
_at_least_one.__name__ = "integer"


def _add_bench(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add("bench", help="compare fastpool with the standard executors")
    parser.set_defaults(command="bench", handler=_bench)
    parser.add_argument("--quick", action="store_true", help="smaller counts: done in under 20 s")
    parser.add_argument(
        "--only",
        action="append",
        metavar="SECTION",
        help="measure this section only; repeatable (an unknown name prints the list)",
    )
    parser.add_argument("--repeat", type=_at_least_one, metavar="N", help="timed rounds (default 5; 3 with --quick)")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON; '-' is stdout")
    parser.add_argument("--plot", metavar="FILE", help="draw the report; needs fastpool[plot]")


def _add_run(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add("run", help="run a native kernel over .npy files")
    parser.set_defaults(command="run", handler=_run)
    parser.add_argument("kernel", metavar="module:function", help="the kernel, by its import name")
    # Two positionals, the first greedy: argparse leaves the last file name to the output.
    parser.add_argument("inputs", nargs="+", metavar="input.npy", help="one file per argument")
    parser.add_argument("output", metavar="output.npy", help="the file to write")
    parser.add_argument("--workers", type=_at_least_one, metavar="N", help="worker threads")
    parser.add_argument("--grain", type=_at_least_one, metavar="N", help="elements that a worker takes at a time")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fastpool", description="The fastpool tools.")
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_bench(commands.add_parser)
    _add_run(commands.add_parser)
    info = commands.add_parser("info", help="versions, CPUs, settings and sample kernels")
    info.set_defaults(command="info", handler=_info)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows the program's name; default ``sys.argv[1:]``.

    Returns
    -------
    int
        The exit code: 0 done, 1 failed, 2 refused before anything was done, 130 interrupted.
    """
    options = _parser().parse_args(arguments)
    try:
        handler: Callable[[argparse.Namespace], int] = options.handler
        return handler(options)
    except CommandError as error:
        print(f"fastpool {options.command}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"fastpool {options.command}: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        # A terminal that has no micro sign shows "?": no reason to end a long run in an error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(main())
