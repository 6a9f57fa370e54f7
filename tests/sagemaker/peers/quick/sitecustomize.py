"""Shortens waits: AWS's SDK looks every 5 to 30 seconds whether a job or an endpoint is there. On PYTHONPATH only.

`time.time` advances by what a wait leaves out: while the SDK follows a job's log, it looks at the job's state after 30
seconds of that clock.
"""

import time

_sleep, _time = time.sleep, time.time
_left_out = 0.0


def _short_sleep(seconds: float) -> None:
    global _left_out
    short = min(seconds, 0.2)
    _left_out += seconds - short
    _sleep(short)


time.sleep = _short_sleep
time.time = lambda: _time() + _left_out
