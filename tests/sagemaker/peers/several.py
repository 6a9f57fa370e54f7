"""Runs several scripts in one process, which imports AWS's SDK once; each in a namespace of its own.

The argument is a JSON list of lists: a script and its arguments. What fails is printed, and makes the exit code 1.
"""

import json
import runpy
import sys
import traceback

failed = False
for arguments in json.loads(sys.argv[1]):
    sys.argv = arguments
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except BaseException:  # the next script runs all the same
        failed = True
        print(arguments[0], "failed", flush=True)
        traceback.print_exc()
sys.exit(failed)
