"""A model repository on disk: written atomically, remembered, digested. An edge."""

from tritonforge.repository.disk.builder import Built, Maker, Progress, build
from tritonforge.repository.disk.record import RECORD, Record

__all__ = ["RECORD", "Built", "Maker", "Progress", "Record", "build"]
