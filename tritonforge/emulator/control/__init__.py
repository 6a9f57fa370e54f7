"""SageMaker's control plane: the operations on its resources, and the threads that do what takes time.

`dispatcher` answers requests with the operations of one module for each kind of resource. `resource_store` stores what
outlives the process. The runners (`deployments`, `transform_runner`, `training_runner`, `validation_runner`) bring
resources from one status to the next.
"""
