"""Algorithms and model packages on their way to SageMaker: planned, created, watched to the end of their validation.

`tritonforge.sagemaker.algorithms` has the requests. `planning` does no I/O; `course` is an edge.
"""
