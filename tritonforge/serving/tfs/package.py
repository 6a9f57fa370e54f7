"""A package on disk, and the command and files that start tensorflow_model_server on it.

The files are protobuf text format: ModelServerConfig (tensorflow_serving/config/model_server_config.proto) and
BatchingParameters (servables/tensorflow/session_bundle_config.proto). Source: aws/deep-learning-containers
scripts/docker/tensorflow/inference/sagemaker/serve.py `_create_tfs_config`, tfs_utils.py `tfs_command`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_encoding

from tritonforge.errors import LaunchError
from tritonforge.triton import tfs_layout as layout
from tritonforge.triton.tfs_container import Batching, Settings, has_requirements
from tritonforge.triton.tfs_layout import ServedModel

__all__ = ["ServedPackage", "build_batching_parameters", "build_command", "build_model_config",
           "choose_default_model", "is_package", "read_package"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class ServedPackage:
    """The models of a folder, and whether it has code, for which the container starts its Python service.

    ``requirements`` is the requirements file, None where it is missing or names nothing.
    """

    folder: Path
    models: tuple[ServedModel, ...]
    has_code: bool
    requirements: Path | None = None


def is_package(folder: Path) -> bool:
    """Return True if a folder is a package for TensorFlow Serving, valid or not, rather than a repository of Triton."""
    return folder.is_dir() and layout.is_package(_list_paths(folder))


def read_package(folder: Path) -> ServedPackage:
    """Return the package in a folder.

    Raises:
        LaunchError: the folder is missing, or has no model that the container would serve.
    """
    if not folder.is_dir():
        raise LaunchError(f"{folder} is not a directory; give the folder that holds the SavedModel's numbered folder")
    models = layout.find_models(_list_paths(folder))
    if not models:
        raise LaunchError(
            f"{folder}: no SavedModel bundles found! A package holds <model>/<number>/{layout.SAVED_MODEL}; "
            "tritonforge validate says more"
        )
    has_code = any((folder / path).exists() for path in (layout.INFERENCE, layout.REQUIREMENTS, layout.LIBRARY))
    requirements = folder / layout.REQUIREMENTS
    if not requirements.is_file() or not has_requirements(requirements.read_text("utf-8", errors="replace")):
        return ServedPackage(folder, models, has_code)
    return ServedPackage(folder, models, has_code, requirements)


def choose_default_model(package: ServedPackage, name: str | None) -> ServedModel:
    """Return the model of requests that name none: of several the first by name, where SageMaker's order is random.

    Raises:
        LaunchError: the model does not exist.
    """
    if name is None:
        return package.models[0]
    for model in package.models:
        if model.name == name:
            return model
    known = ", ".join(model.name for model in package.models)
    raise LaunchError(f"SAGEMAKER_TFS_DEFAULT_MODEL_NAME is {name!r}; the package has {known}")


def _list_paths(folder: Path, prefix: str = "", above: tuple[tuple[int, int], ...] = ()) -> Iterator[str]:
    """Yield the paths in a folder, links followed; ``above`` are device and inode numbers of the folders around it."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return  # a link to a folder around it
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir():
            yield f"{prefix}{entry.name}/"
            yield from _list_paths(Path(entry.path), f"{prefix}{entry.name}/", (*above, here))
        else:
            yield f"{prefix}{entry.name}"


def build_model_config(models: Iterable[ServedModel], package: Path) -> str:
    """Return the text that names each model, its folder, and every version of it."""
    parts = []
    for model in models:
        versions = "".join(f"        versions: {number}\n" for number in model.versions)
        parts.append(
            "  config: {\n"
            f"    name: '{_quote(model.name)}'\n"
            f"    base_path: '{_quote(str(package / model.folder))}'\n"
            "    model_platform: 'tensorflow'\n"
            "    model_version_policy: {\n"
            "      specific: {\n"
            f"{versions}"
            "      }\n"
            "    }\n"
            "  }\n"
        )
    return "model_config_list: {\n" + "".join(parts) + "}\n"


def build_batching_parameters(batching: Batching) -> str:
    """Return the text of the batching parameters."""
    values = {
        "max_batch_size": batching.max_batch_size,
        "batch_timeout_micros": batching.batch_timeout_micros,
        "num_batch_threads": batching.num_batch_threads,
        "max_enqueued_batches": batching.max_enqueued_batches,
    }
    return "".join(f"{name} {{ value: {value} }}\n" for name, value in values.items())


def build_command(
    program: Sequence[str],
    settings: Settings,
    *,
    grpc_port: int,
    rest_port: int,
    model_config_file: Path,
    batching_file: Path,
) -> list[str]:
    """Return the command line; ``program`` is tensorflow_model_server, or a replacement with the same flags."""
    command = [
        *program,
        f"--port={grpc_port}",
        f"--rest_api_port={rest_port}",
        f"--model_config_file={model_config_file}",
        "--max_num_load_retries=0",
    ]
    if settings.batching is not None:
        command += ["--enable_batching=true", f"--batching_parameters_file={batching_file}"]
    if settings.intra_op_parallelism:
        command.append(f"--tensorflow_intra_op_parallelism={settings.intra_op_parallelism}")
    if settings.inter_op_parallelism:
        command.append(f"--tensorflow_inter_op_parallelism={settings.inter_op_parallelism}")
    return command


def _quote(text: str) -> str:
    """Return a text for single quotes, escaped for the text format."""
    return str(text_encoding.CEscape(os.fsencode(text), as_utf8=False))
