"""The text of config.pbtxt: written from a `ModelConfig` and read back, as a pair. This module does no I/O.

Fields come in the order in which model_config.proto declares them, and only those that are set. The one exception is
``max_batch_size``, which is always written: Triton's DALI backend reads it from the text, where absent means "as the
pipeline says" and 0 means "unbatched" (dali_backend config_tools.cc), a difference that protobuf itself cannot hold.
"""

from __future__ import annotations

import re

from google.protobuf import text_format

from tritonforge.errors import PbtxtError
from tritonforge.triton.schema import ModelConfig, new_model_config

__all__ = ["read", "write"]


def write(config: ModelConfig) -> str:
    """The text of a `ModelConfig`; `read` gives an equal message back."""
    if "max_batch_size" in {field.name for field, _ in config.ListFields()}:
        return _print(config)
    before, after = new_model_config(), new_model_config()
    before.CopyFrom(config)
    after.CopyFrom(config)
    here = config.DESCRIPTOR.fields_by_name["max_batch_size"].index
    for field in config.DESCRIPTOR.fields:
        (after if field.index < here else before).ClearField(field.name)
    return f"{_print(before)}max_batch_size: 0\n{_print(after)}"


def _print(config: ModelConfig) -> str:
    return text_format.MessageToString(config, use_index_order=True, use_short_repeated_primitives=True)


def read(text: str) -> ModelConfig:
    """The `ModelConfig` that a text states.

    Raises:
        PbtxtError: the text is not one, with the line and column where protobuf's parser stopped.
    """
    config = new_model_config()
    try:
        text_format.Parse(text, config)
    except text_format.ParseError as error:
        where = re.match(r"(?:(\d+):(\d+) : )?(.*)", str(error), flags=re.DOTALL)
        assert where is not None
        line, column = error.GetLine(), error.GetColumn()
        place = "" if line is None else f"line {line}, column {column}: "
        raise PbtxtError(f"{place}{where[3]}", line=line, column=column) from error
    except (RecursionError, UnicodeError, ValueError, TypeError) as error:
        raise PbtxtError(f"this is not protobuf text: {error}") from error
    return config
