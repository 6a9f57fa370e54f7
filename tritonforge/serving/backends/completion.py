"""What a configuration leaves out, filled in from the model's file, as Triton's own backends do ("auto-complete").

Triton asks for it in a process of its own before it loads a model, unless ``--disable-auto-complete-config`` is given,
and tells that process nothing but the configuration; where the model lies is found in the process's command line.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tritonforge.errors import ArtifactError, MissingExtraError, TritonForgeError
from tritonforge.model_files.signature import UNSUPPORTED, Signature
from tritonforge.serving.backends.configuration import Configuration, read_config

__all__ = ["DEFAULT_MAX_BATCH_SIZE", "configuration", "is_complete", "reported", "set_batching", "set_tensors"]

#: Triton's ``--backend-config=default-max-batch-size``.
DEFAULT_MAX_BATCH_SIZE: Final = 4


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Give this project's errors, and those of reading files, to Triton as the reason why a model does not load."""
    import triton_python_backend_utils as pb_utils

    try:
        yield
    except TritonForgeError as error:
        raise pb_utils.TritonModelException(str(error)) from error
    except ModuleNotFoundError as error:
        raise pb_utils.TritonModelException(
            str(MissingExtraError(error.name or "a framework", extra="local"))
        ) from error
    except FileNotFoundError as error:
        raise pb_utils.TritonModelException(f"unable to find '{error.filename}'") from error


def configuration(config: Any) -> Configuration:
    """The configuration that Triton wants completed (a `ModelConfig` of the stub), with the model's folder."""
    # argv[1] of a stub is <model folder>/<version>/<file name> (python_backend src/stub_launcher.cc).
    command = Path("/proc/self/cmdline").read_bytes().split(b"\0")
    return read_config(config.as_dict(), Path(command[1].decode()).parent)


def is_complete(config: Any) -> bool:
    """Whether every input and output is there with its name, type and dims."""
    parts = config.as_dict()
    tensors = [*parts.get("input", ()), *parts.get("output", ())]
    given = all(each["data_type"] != "TYPE_INVALID" and (each["dims"] or "reshape" in each) for each in tensors)
    return bool(parts.get("input")) and bool(parts.get("output")) and given


def set_tensors(config: Any, signature: Signature, *, batched: bool) -> None:
    """Add the inputs and outputs that are missing, and the types and dims of those that are there without."""
    parts = config.as_dict()
    for key, add, tensors in (
        ("input", config.add_input, signature.inputs),
        ("output", config.add_output, signature.outputs),
    ):
        present = {stated["name"]: stated for stated in parts.setdefault(key, [])}
        for tensor in tensors:
            if present and key == "output" and tensor.name not in present:
                continue  # a configuration that names some outputs has these alone
            stated = present.get(tensor.name, {"data_type": "TYPE_INVALID", "dims": []})
            if tensor.data_type in (None, UNSUPPORTED) or tensor.shape is None:
                continue  # the configuration has to state what the file does not
            if stated["data_type"] == "TYPE_INVALID" or not (stated["dims"] or "reshape" in stated):
                dims = list(tensor.shape[1:] if batched else tensor.shape)
                add({"name": tensor.name, "data_type": tensor.data_type, "dims": stated["dims"] or dims or [1]})


def set_batching(config: Any, signature: Signature) -> bool:
    """Decide whether the model batches, and set ``max_batch_size`` and the dynamic batcher where it does.

    A model can batch when every first dimension is -1. ``dims`` that are given decide: with the batch dimension among
    them the model does not batch.

    Raises:
        ArtifactError: the configuration asks for batches and the model cannot, or its dims contradict each other.
    """
    parts = config.as_dict()
    name, asked = parts["name"], int(parts["max_batch_size"])
    shapes = {tensor.name: tensor.shape for tensor in (*signature.inputs, *signature.outputs)}
    can = all(shape is not None and tuple(shape[:1]) == (-1,) for shape in shapes.values())
    if asked > 0:
        if not can:
            raise ArtifactError(
                f"unable to autofill for '{name}', configuration specified max-batch {asked} but model signature does "
                "not support batching"
            )
        return True
    given = {each["name"]: each["dims"] for each in (*parts.get("input", ()), *parts.get("output", ())) if each["dims"]}
    hints = {len(dims) < len(shapes[name] or ()) for name, dims in given.items() if name in shapes}
    if len(hints) > 1:
        raise ArtifactError(
            f"unable to autofill for '{name}', model tensor configurations are contradicting each other in terms of "
            "whether batching is supported"
        )
    if not can or hints == {False}:
        return False
    config.set_max_batch_size(DEFAULT_MAX_BATCH_SIZE)
    _set_dynamic_batching(config)
    return True


def _set_dynamic_batching(config: Any) -> None:
    if "sequence_batching" not in config.as_dict():
        config.set_dynamic_batching()
