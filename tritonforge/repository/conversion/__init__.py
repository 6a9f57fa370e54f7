"""A repository without TensorFlow: each TensorFlow model as an ONNX model of the same name, compared with the original.

`tritonforge.repository.conversion.converter.converted` is the entry. Frameworks are loaded in a child process alone.
"""

from __future__ import annotations

from tritonforge.repository.conversion.converter import converted
from tritonforge.repository.conversion.facts import TOLERANCES, Conversion, Converted

__all__ = ["TOLERANCES", "Conversion", "Converted", "converted"]
