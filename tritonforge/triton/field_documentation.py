"""What model_config.proto states about its messages, fields and enums.

The data file beside this module quotes the comments of Triton's proto and has their source and licence;
``tests/fixtures/make_field_documentation.py`` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files

__all__ = ["SOURCE", "find_documentation"]

#: Where readers find the whole file.
SOURCE = "https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto"


def find_documentation(name: str) -> str:
    """Return the documentation of a full name, such as ``inference.ModelInput.dims``; "" where the proto has none."""
    return _load().get(name, "")


@lru_cache(maxsize=1)
def _load() -> Mapping[str, str]:
    content = json.loads(files(__package__).joinpath("field_documentation.json").read_text(encoding="utf-8"))
    documentation: Mapping[str, str] = content["documentation"]
    return documentation
