"""What all jobs of SageMaker have in common: a name, a request, a course that is watched, a log, an end.

`kinds`, `likeness` and `naming` do no I/O; `checking`, `sending`, `looking` and `lines` are edges.
"""
