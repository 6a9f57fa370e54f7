"""What tensorflow_model_server is started with: its command, and the texts of its two files. No I/O here.

The texts are protobuf text format: ModelServerConfig (tensorflow_serving/config/model_server_config.proto) and
BatchingParameters (servables/tensorflow/session_bundle_config.proto). Source: aws/deep-learning-containers
scripts/docker/tensorflow/inference/sagemaker/serve.py `_create_tfs_config`, tfs_utils.py `tfs_command`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from google.protobuf import text_encoding

from tritonforge.triton.tfs_container import Batching, Settings
from tritonforge.triton.tfs_layout import ServedModel

__all__ = ["batching_parameters", "command", "model_config"]


def model_config(models: Iterable[ServedModel], package: Path) -> str:
    """The text that names each model, its folder, and every version of it."""
    parts = []
    for model in models:
        versions = "".join(f"        versions: {number}\n" for number in model.versions)
        parts.append(
            "  config: {\n"
            f"    name: '{_quoted(model.name)}'\n"
            f"    base_path: '{_quoted(str(package / model.folder))}'\n"
            "    model_platform: 'tensorflow'\n"
            "    model_version_policy: {\n"
            "      specific: {\n"
            f"{versions}"
            "      }\n"
            "    }\n"
            "  }\n"
        )
    return "model_config_list: {\n" + "".join(parts) + "}\n"


def batching_parameters(batching: Batching) -> str:
    """The text of the batching parameters."""
    values = {
        "max_batch_size": batching.max_batch_size,
        "batch_timeout_micros": batching.batch_timeout_micros,
        "num_batch_threads": batching.num_batch_threads,
        "max_enqueued_batches": batching.max_enqueued_batches,
    }
    return "".join(f"{name} {{ value: {value} }}\n" for name, value in values.items())


def command(
    program: Sequence[str],
    settings: Settings,
    *,
    grpc_port: int,
    rest_port: int,
    model_config_file: Path,
    batching_file: Path,
) -> list[str]:
    """The command line; ``program`` is tensorflow_model_server, or what stands in for it and takes its flags."""
    made = [
        *program,
        f"--port={grpc_port}",
        f"--rest_api_port={rest_port}",
        f"--model_config_file={model_config_file}",
        "--max_num_load_retries=0",
    ]
    if settings.batching is not None:
        made += ["--enable_batching=true", f"--batching_parameters_file={batching_file}"]
    if settings.intra_op_parallelism:
        made.append(f"--tensorflow_intra_op_parallelism={settings.intra_op_parallelism}")
    if settings.inter_op_parallelism:
        made.append(f"--tensorflow_inter_op_parallelism={settings.inter_op_parallelism}")
    return made


def _quoted(text: str) -> str:
    """A text between single quotes, escaped as the text format has it."""
    return str(text_encoding.CEscape(os.fsencode(text), as_utf8=False))
