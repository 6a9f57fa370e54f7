"""The predictor's program: load the models, then answer.

It takes the flags that SageMaker's container gives to tensorflow_model_server (`configuration.command` there).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tritonforge import tf_memory
from tritonforge.errors import LaunchError
from tritonforge.serving import ports
from tritonforge.serving.listener import Listener, listening
from tritonforge.serving.tfs.predictor import configuration
from tritonforge.serving.tfs.predictor.rest import Api
from tritonforge.serving.tfs.predictor.servable import Servable, load


def main() -> int:
    """Load and answer until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m tritonforge.serving.tfs.predictor", allow_abbrev=False)
    parser.add_argument("--port", type=int, default=0, help="taken, and not used: there is no gRPC")
    parser.add_argument("--rest_api_port", type=int, required=True)
    parser.add_argument("--model_config_file", type=Path, required=True)
    parser.add_argument("--max_num_load_retries", type=int, default=0)
    parser.add_argument("--enable_batching", default="false")
    parser.add_argument("--batching_parameters_file", type=Path)
    parser.add_argument("--tensorflow_intra_op_parallelism", type=int, default=0)
    parser.add_argument("--tensorflow_inter_op_parallelism", type=int, default=0)
    arguments = parser.parse_args()
    try:
        models = configuration.models(arguments.model_config_file.read_text(encoding="utf-8"))
        batching = None
        if arguments.enable_batching == "true":
            batching = configuration.batching(arguments.batching_parameters_file.read_text(encoding="utf-8"))
    except LaunchError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    tf_memory.without_keras()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(arguments.tensorflow_intra_op_parallelism)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.tensorflow_inter_op_parallelism)
    servables = [servable for model in models for servable in _servables(model, batching)]
    Listener(listening(ports.HOST, arguments.rest_api_port), Api(servables).answer).run()
    return 0


def _servables(model: configuration.ServableConfig, batching: configuration.Batching | None) -> list[Servable]:
    """Every version of a model that is asked for and has a folder, whose name may have leading zeros."""
    names = sorted((each.name for each in Path(model.base_path).iterdir()), reverse=True)
    folders = {int(name): name for name in names if name.isdecimal()}
    return [
        load(model.name, version, Path(model.base_path, folders[version]), batching)
        for version in model.versions
        if version in folders
    ]


if __name__ == "__main__":
    sys.exit(main())
