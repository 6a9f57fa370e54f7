"""The ``dali`` backend's entry: Triton makes one `TritonPythonModel` for each instance of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tritonforge.errors import ArtifactError
from tritonforge.model_files import dali_pipeline
from tritonforge.serving.backends import completion, configuration, requests
from tritonforge.serving.backends.configuration import Configuration
from tritonforge.serving.backends.dali import declaration
from tritonforge.serving.backends.dali.engine import Engine

__all__ = ["TritonPythonModel"]

#: Operators that read encoded images: fn.decoders.image and its kin, and their old names.
_IMAGE_DECODER: Final = re.compile(r"decoders__Image|ImageDecoder|PeekImageShape")


class TritonPythonModel:
    """One DALI pipeline.

    ``parameters``: ``num_threads``. Inputs are matched by name, outputs by position, as dali_backend does
    (src/dali_model.h). The samples of a request may be of any length, those of other requests of another.
    """

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Fill in what the pipeline declares, and batch requests dynamically."""
        with completion.reported():
            given = completion.configuration(config)
            data = _serialized(given)
            batch_size = None if _states_batch_size(given.folder.parent) else dali_pipeline.parse(data).batch_size
            declaration.complete(config, dali_pipeline.signature(data), batch_size)
        return config

    def initialize(self, args: Mapping[str, str]) -> None:
        """Read the model's file and build the pipeline."""
        import triton_python_backend_utils as pb_utils

        with completion.reported():
            self._configuration = config = configuration.read(args)
            config.refuse("split_along_outer_axis")
            data = _serialized(config)
            declaration.check(config, dali_pipeline.signature(data))
            if config.device is None and dali_pipeline.needs_gpu(data):
                data = dali_pipeline.on_cpu(data)
                pb_utils.Logger.log_warn(f"model '{config.name}': its pipeline is made for a GPU and runs on the CPU")
            self._engine = Engine(
                serialized=data,
                outputs=tuple(each.name for each in config.outputs),
                batch_size=config.max_batch_size or None,
                num_threads=config.number("num_threads", 0, minimum=1) if "num_threads" in config.parameters else None,
                device_id=config.device,
                decodes_images=any(_IMAGE_DECODER.search(each.name) for each in dali_pipeline.parse(data).op),
            )
            self._build()

    def execute(self, asked: Sequence[Any]) -> list[Any]:
        """Answer the requests that Triton hands over as one batch."""
        return requests.respond(asked, self._configuration, self._engine.answer)

    def _build(self) -> None:
        try:
            self._engine.build()
        except RuntimeError as error:  # what DALI raises for everything
            raise ArtifactError(f"Error while instantiating DALI pipeline: {error}") from error


def _serialized(config: Configuration) -> bytes:
    path = config.file("model.dali")
    if not path.is_file():
        raise ArtifactError(
            f"Failed to load model file. The program looked in the following locations: {path}. Please make sure that "
            "the model exists in any of the locations and is properly serialized or can be properly serialized."
        )
    return path.read_bytes()


def _states_batch_size(model: Path) -> bool:
    """Whether config.pbtxt has the field: without it the pipeline's own batch size counts, and 0 means no batching.

    Triton's configuration cannot tell the two apart; dali_backend reads the text as well.
    """
    try:
        text = (model / "config.pbtxt").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return re.search(r"^\s*max_batch_size\s*:|[\s{;,]max_batch_size\s*:", text) is not None
