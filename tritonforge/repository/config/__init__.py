"""Definition to `ModelConfig`, and `ModelConfig` to and from the text of config.pbtxt. Nothing here does I/O."""

from tritonforge.repository.config.lowering import to_config
from tritonforge.repository.config.text import read, write

__all__ = ["read", "to_config", "write"]
