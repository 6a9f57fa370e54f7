"""Shortens waits: AWS's SDK looks every 5 to 30 seconds whether a job or an endpoint is there. On PYTHONPATH only."""

import time

_sleep = time.sleep
time.sleep = lambda seconds: _sleep(min(seconds, 0.2))
