"""The command line as ``python -m tritonforge``, for a Python whose programs are not on the PATH."""

from tritonforge.cli.console import main

if __name__ == "__main__":
    main()
