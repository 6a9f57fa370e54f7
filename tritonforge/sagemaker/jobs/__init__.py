"""Jobs on SageMaker: training jobs, transform jobs, and the publication of algorithms and model packages.

A kind of job is one `kinds.JobKind` and one subclass of `lifecycle.SageMakerJob`: it is planned, submitted, watched to
its end, and has a result.
"""
