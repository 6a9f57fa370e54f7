"""The ``dali`` backend: serialised NVIDIA DALI pipelines, on the CPU where there is no GPU."""
