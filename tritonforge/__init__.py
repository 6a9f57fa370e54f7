"""tritonforge: Python definitions become a Triton model repository, proved right before any server sees it."""

__version__ = "0.1.0"
