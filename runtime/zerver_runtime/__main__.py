"""`python -m zerver_runtime demo`."""

from __future__ import annotations

import argparse
import sys


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m zerver_runtime", description="Actors on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="ping-pong, fan-out and crashes that are survived, live")
    demo.add_argument("--seconds", type=float, default=6.0, help="how long (default: 6)")
    given = parser.parse_args(arguments)
    if not 0 < given.seconds < float("inf"):
        parser.error(f"--seconds {given.seconds:g}: give a number above 0")
    from zerver_runtime.demo import run

    return run(given.seconds)


if __name__ == "__main__":
    sys.exit(main())
