"""Training jobs on SageMaker: the request of a job with its data, its course there, and the model that it leaves.

`contents`, `fleet`, `limits` and `planning` do no I/O; `materials`, `observation`, `uploading` and `course` are
edges. A channel whose data lie on this machine goes to S3 first, under names that carry digests.
"""
