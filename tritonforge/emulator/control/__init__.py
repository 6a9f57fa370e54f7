"""SageMaker's control plane: the operations on its resources, and the threads that do what takes time.

`dispatcher` answers requests with the operations of one module for each kind of resource. `resource_store` stores what
outlives the process. The runners (subclasses of `job_runner.JobRunner`, one for each kind of resource whose status
changes by itself) bring resources from one status to the next.
"""
