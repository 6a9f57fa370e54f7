"""The console script: an interruption ends it in one word from its first lines on, while the command still loads."""

import sys

__all__ = ["main"]


def main() -> None:
    """Load the command line and run it; exit code 130 when it is interrupted."""
    try:
        from tritonforge.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
