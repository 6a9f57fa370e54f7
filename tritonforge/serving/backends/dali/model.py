"""The ``dali`` backend: serialised NVIDIA DALI pipelines, on the CPU where there is no GPU.

Triton makes one `TritonPythonModel` for each instance of a model. Of what a pipeline declares (``dtype=``, ``ndim=`` or
``layout=`` of an external source, ``output_dtype`` and ``output_ndim`` of the pipeline) the configuration is checked
and completed, with dali_backend's own messages (src/config_tools/config_tools.cc).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tritonforge.errors import ArtifactError
from tritonforge.model_files import dali_pipeline
from tritonforge.model_files.completion import complete_pipeline
from tritonforge.model_files.signature import UNSUPPORTED, Difference, Signature, compare_signatures
from tritonforge.serving.backends import configuration, requests
from tritonforge.serving.backends.configuration import Configuration, build_specs
from tritonforge.serving.backends.dali.engine import Engine

__all__ = ["TritonPythonModel", "check_signature"]


#: Operators that read encoded images: fn.decoders.image and its kin, and their old names.
_IMAGE_DECODER: Final = re.compile(r"decoders__Image|ImageDecoder|PeekImageShape")


class TritonPythonModel:
    """One DALI pipeline.

    ``parameters``: ``num_threads``. Inputs are matched by name, outputs by position, as dali_backend does
    (src/dali_model.h). The samples of different requests may have different lengths.
    """

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Fill in what the pipeline declares, and batch requests dynamically."""
        with configuration.report_errors():
            incomplete = configuration.read_incomplete_config(config)
            data = _read_pipeline(incomplete)
            batch_size = None if _has_max_batch_size(incomplete.folder.parent) else dali_pipeline.parse(data).batch_size
            complete_pipeline(config.as_dict(), dali_pipeline.read_signature(data), batch_size)
        return config

    def initialize(self, args: Mapping[str, str]) -> None:
        """Read the model's file and build the pipeline."""
        import triton_python_backend_utils as pb_utils

        with configuration.report_errors():
            self._configuration = config = configuration.read_arguments(args)
            config.refuse("split_along_outer_axis")
            data = _read_pipeline(config)
            check_signature(config, dali_pipeline.read_signature(data))
            if config.device is None and dali_pipeline.needs_gpu(data):
                data = dali_pipeline.move_to_cpu(data)
                pb_utils.Logger.log_warn(f"model '{config.name}': its pipeline is made for a GPU and runs on the CPU")
            self._run_time = requests.RunTime()
            self._engine = Engine(
                serialized=data,
                outputs=tuple(tensor.name for tensor in config.outputs),
                batch_size=config.max_batch_size or None,
                num_threads=config.read_number("num_threads", 0, minimum=1)
                if "num_threads" in config.parameters
                else None,
                device_id=config.device,
                decodes_images=any(_IMAGE_DECODER.search(operator.name) for operator in dali_pipeline.parse(data).op),
            )
            self._build()

    def execute(self, batch: Sequence[Any]) -> list[Any]:
        """Run the requests that Triton passes as one batch."""
        return requests.run_batch(
            batch, self._configuration, self._engine.run, run_time=self._run_time, keeps_inputs=False
        )

    def _build(self) -> None:
        try:
            self._engine.build()
        except RuntimeError as error:  # what DALI raises for everything
            raise ArtifactError(f"Error while instantiating DALI pipeline: {error}") from error


def _read_pipeline(config: Configuration) -> bytes:
    path = config.get_path("model.dali")
    if not path.is_file():
        raise ArtifactError(
            f"Failed to load model file. The program looked in the following locations: {path}. Please make sure that "
            "the model exists in any of the locations and is properly serialized or can be properly serialized."
        )
    return path.read_bytes()


def _has_max_batch_size(model: Path) -> bool:
    """Return True if config.pbtxt has the field: without it the pipeline's own batch size counts, and 0 disables it.

    The two are equal in Triton's configuration; dali_backend reads the text as well.
    """
    try:
        text = (model / "config.pbtxt").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return re.search(r"^\s*max_batch_size\s*:|[\s{;,]max_batch_size\s*:", text) is not None


def check_signature(config: Configuration, declared: Signature) -> None:
    """Compare inputs by name and outputs by position; raises ArtifactError with the first difference."""
    for tensor in (*config.inputs, *config.outputs):
        if tensor.data_type == UNSUPPORTED:
            raise ArtifactError(f'Missing data_type config for "{tensor.name}"')
    # Of a shape only the number of dimensions is declared.
    stated = Signature(build_specs(config.inputs), build_specs(config.outputs))
    for difference in compare_signatures(stated, declared, batched=config.batched):
        raise ArtifactError(_describe(difference, config, declared))


def _describe(difference: Difference, config: Configuration, declared: Signature) -> str:
    stated, found = difference.stated, difference.found
    if difference.kind == "count":
        return (
            "The number of outputs specified in the DALI pipeline and the configuration file do not match. "
            f"Model config outputs: {len(config.outputs)}, pipeline outputs: {len(declared.outputs)}"
        )
    if stated is None:
        assert found is not None
        return f'Missing config for "{found.name}" input.'
    if found is None:
        return f"Configuration file contains config for {stated.name} but such input is not present in the pipeline."
    if difference.kind == "data_type":
        return (
            f'Mismatch of data_type config for "{stated.name}". Data type defined in config: {stated.data_type}. '
            f"Data type defined in pipeline: {found.data_type}"
        )
    return (
        f'Mismatch in number of dimensions for "{stated.name}". '
        f"Number of dimensions defined in config: {len(stated.shape or ()) - 1}. "
        f"Number of dimensions defined in pipeline: {len(found.shape or ()) - 1}"
    )
