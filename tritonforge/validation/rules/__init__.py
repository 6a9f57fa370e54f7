"""The rules: each module defines some, with the checks that report them. No I/O."""
