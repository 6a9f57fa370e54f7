"""The ``fil`` backend: decision trees of XGBoost, LightGBM or treelite, run by treelite on the CPU.

Triton makes one `TritonPythonModel` for each instance of a model. Parameters, outputs and words follow fil_backend of
r24.10 (src/shared_state.h, src/tl_model.h, src/model.h) and RAPIDS-Triton (model/shared_state.hpp), on which it is
built; ``is_classifier`` is the name that ``output_class`` has since 25.09. Both compute with treelite. Nothing is
completed: that backend does not do it either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from tritonforge import datatypes
from tritonforge.errors import ArtifactError
from tritonforge.serving.backends import configuration, requests
from tritonforge.serving.backends.configuration import Configuration
from tritonforge.serving.backends.requests import Arrays, RequestError
from tritonforge.triton.model_formats import FIL_FORMATS

__all__ = ["Forest", "Settings", "TritonPythonModel", "load_forest", "read_settings"]

INPUT: Final = "input__0"
OUTPUT: Final = "output__0"


class TritonPythonModel:
    """One forest."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the file."""
        with configuration.report_errors():
            stated = configuration.read_arguments(args)
            self._runner = requests.BatchRunner(stated, load_forest(stated).run)

    def execute(self, batch: Sequence[Any]) -> list[Any]:
        """Run the requests that Triton passes as one batch."""
        return self._runner.execute(batch)


_MULTICLASS: Final = 2  # treelite::TaskType::kMultiClf


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The parameters of a model that change what it answers, and the number of threads (-1: one for each core)."""

    model_type: str
    is_classifier: bool
    predict_proba: bool
    threshold: float
    allow_unknown_field: bool
    threads: int


@dataclass(frozen=True, slots=True)
class Forest:
    """A loaded model, its settings, and the shape of its output; -1 is the number of rows."""

    model: Any
    settings: Settings
    shape: tuple[int, ...]
    features: int
    classes: int

    def run(self, arrays: Arrays, names: Sequence[str]) -> Arrays:
        """Return the output for the rows of the input; raises RequestError for rows of another length."""
        rows = arrays[INPUT]
        if rows.ndim != 2 or rows.shape[1] != self.features:
            raise RequestError(
                f"input '{INPUT}' has shape {list(rows.shape)}: the model expects rows of {self.features} features"
            )
        values = self.predict(rows)
        shape = tuple(len(rows) if extent == -1 else extent for extent in self.shape)
        if values.size != int(np.prod(shape)):
            raise RequestError(
                f"output '{OUTPUT}': the model gives {values.size // max(1, len(rows))} values for a row, which is not "
                f"the shape {list(self.shape)} of the model configuration",
                caller=False,
            )
        return {name: values.reshape(shape) for name in names}

    def predict(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return classes, probabilities or values as FP32, one row for each one of ``rows``.

        Two probabilities of a model with one class are computed only where the configuration has two: 25.09 and later
        do so, while 24.10 writes wrong values for one.
        """
        import treelite

        if not len(rows):
            return np.empty((0,), np.float32)
        predictions = treelite.gtil.predict(self.model, rows, nthread=self.settings.threads)
        scores = np.asarray(predictions[:, 0, :], np.float32)
        if self.settings.predict_proba:
            if self.classes == 1 and self.shape[-1] == 2:
                return np.concatenate([1 - scores, scores], axis=1)
        elif self.settings.is_classifier:
            if self.classes > 1:
                return np.asarray(scores.argmax(axis=1), np.float32)
            return np.asarray(scores > np.float32(self.settings.threshold), np.float32)
        return scores


def load_forest(config: Configuration) -> Forest:
    """Load the model in a version's folder.

    Raises:
        ArtifactError: the file is missing, not a model, or differs from the configuration; a parameter is invalid.
    """
    settings = read_settings(config.parameters)
    columns = _check_tensors(config)
    path = config.get_path(FIL_FORMATS[settings.model_type])
    if path.is_dir():
        path = path / FIL_FORMATS[settings.model_type]
    if not path.is_file():
        raise ArtifactError(f"unable to find '{path}' for model '{config.name}'")
    import treelite

    try:
        model = _read_model(path, settings)
    except treelite.TreeliteError as error:
        raise ArtifactError(f"{path} is not a model that this treelite can run: {_find_reason(error)}") from error
    header = model.get_header_accessor()
    if int(header.get_field("num_target")[0]) != 1:
        raise ArtifactError("Multi-target model not supported")
    if columns not in (-1, model.num_feature):
        raise ArtifactError(
            f"model '{config.name}', tensor '{INPUT}': the model expects {model.num_feature} features but the model "
            f"configuration specifies {columns}"
        )
    if settings.predict_proba and int(header.get_field("task_type")[0]) == _MULTICLASS:
        votes = int(header.get_field("leaf_vector_shape")[1]) > 1
        header.set_field("postprocessor", "identity_multiclass" if votes else "softmax")
    classes = int(header.get_field("num_class")[0])
    return Forest(model, settings, _squeeze_shape(config), int(model.num_feature), classes)


def _check_tensors(config: Configuration) -> int:
    """Return the number of features in the configuration, -1 where it may vary; raises ArtifactError."""
    for kind, name, tensors in (("input", INPUT, config.inputs), ("output", OUTPUT, config.outputs)):
        others = [tensor.name for tensor in tensors if tensor.name != name]
        if "treeshap_output" in others:
            raise ArtifactError(
                f"output 'treeshap_output' of model '{config.name}' is not supported by tritonforge's backend; remove "
                "it, or serve the model on Triton's own"
            )
        if others or not tensors:
            raise ArtifactError(f"No {kind} with name {name} in configuration.")
        if tensors[0].data_type != datatypes.TYPE_FP32:
            raise ArtifactError(
                f"incorrect type {tensors[0].data_type.removeprefix('TYPE_')} for {kind} with required type FP32"
            )
    dims = config.inputs[0].dims
    return dims[-1] if dims else -1


def _squeeze_shape(config: Configuration) -> tuple[int, ...]:
    """Return the shape of the output: rows first and without extents of 1, as RAPIDS-Triton answers."""
    dims = config.outputs[0].dims
    return tuple(extent for extent in (dims if dims[:1] == (-1,) else (-1, *dims)) if extent != 1)


def _read_model(path: Path, settings: Settings) -> Any:
    import treelite

    if settings.model_type == "lightgbm":
        return treelite.frontend.load_lightgbm_model(path)
    if settings.model_type == "treelite_checkpoint":
        return treelite.Model.deserialize(path)
    if settings.model_type == "xgboost":
        return treelite.frontend.load_xgboost_model_legacy_binary(path)
    return treelite.frontend.load_xgboost_model(
        path,
        format_choice="json" if settings.model_type == "xgboost_json" else "ubjson",
        allow_unknown_field=settings.allow_unknown_field,
    )


def read_settings(parameters: Mapping[str, str]) -> Settings:
    """Return the settings in ``parameters``; those that tune a GPU are ignored.

    Raises:
        ArtifactError: a parameter is missing or invalid.
    """
    model_type = parameters.get("model_type", "xgboost")
    if model_type not in FIL_FORMATS:
        raise ArtifactError(f"{model_type} not recognized as a valid serialization format.")
    name = next((name for name in ("output_class", "is_classifier") if name in parameters), "output_class")
    is_classifier = _read_flag(parameters, name, required=True)
    threshold = 0.5
    if is_classifier:
        if "threshold" not in parameters:
            raise ArtifactError("Required parameter threshold not found in config")
        threshold = _read_threshold(parameters["threshold"])
    threads = parameters.get("cpu_nthread", "")
    return Settings(
        model_type=model_type,
        is_classifier=is_classifier,
        predict_proba=_read_flag(parameters, "predict_proba"),
        threshold=threshold,
        allow_unknown_field=_read_flag(parameters, "xgboost_allow_unknown_field"),
        threads=int(threads) if threads.lstrip("-").isdigit() else -1,
    )


def _read_flag(parameters: Mapping[str, str], name: str, *, required: bool = False) -> bool:
    if name not in parameters:
        if required:
            raise ArtifactError(f"Required parameter {name} not found in config")
        return False
    if parameters[name] not in ("true", "false"):
        raise ArtifactError(f"Expected 'true' or 'false' for parameter '{name}', got: '{parameters[name]}'")
    return parameters[name] == "true"


def _read_threshold(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArtifactError("Bad input for parameter threshold") from None


def _find_reason(error: Exception) -> str:
    """Return an error of treelite in one line, without the time and the place in its source."""
    return " ".join(str(error).split(".cc:")[-1].partition(": ")[2].split()) or str(error)
