"""A model repository on disk: written atomically, remembered, digested. An edge."""

from tritonforge.repository.build.builder import Built, Maker, Progress, build
from tritonforge.repository.build.manifest import RECORD, Record

__all__ = ["RECORD", "Built", "Maker", "Progress", "Record", "build"]
