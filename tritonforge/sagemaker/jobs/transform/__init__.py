"""Batch transform on SageMaker: the request of a job, its course there, and S3 as a place for jobs of this machine.

`limits` and `planning` do no I/O; `course` and `places` are edges.
"""
