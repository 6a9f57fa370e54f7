"""The declaration of the detector: the inputs and metrics of its training, and the types of its inference.

Hyperparameters, metrics and formats are those of SageMaker's built-in "Object Detection - TensorFlow" by their real
names and with their defaults (Source: SageMaker developer guide, "Object Detection - TensorFlow Hyperparameters"; the
logs of its training script). Its own are ``image_size``, ``learning_rate_schedule`` and ``seed``.
"""

from __future__ import annotations

from typing import Final

from tritonforge.training.algorithm import Algorithm, Channel, HyperParameter, Metric, Objective

__all__ = ["OPTIMIZERS", "SIDES", "algorithm"]

OPTIMIZERS: Final = ("adam", "sgd", "nesterov", "rmsprop", "adagrad", "adadelta")

#: Sides of the network's square input, in pixels: whole strides of its coarsest level.
SIDES: Final = ("64", "96", "128", "160", "192", "224", "256", "320", "384", "448", "512", "640")

_CPU: Final = ("ml.m5.large", "ml.m5.xlarge", "ml.m5.2xlarge", "ml.c5.xlarge", "ml.c5.2xlarge", "ml.c5.4xlarge")

_DATA: Final = {
    "content_types": ("application/x-image", "application/x-recordio", "image/jpeg", "image/png"),
    "compression_types": ("None", "Gzip"),
    "input_modes": ("File", "FastFile", "Pipe"),
}


def _part(name: str, default: float, description: str, *, tunable: bool = False) -> HyperParameter:
    """A number from 0 to 1."""
    return HyperParameter(name, "Continuous", description, default, minimum=0.0, maximum=1.0, tunable=tunable)


algorithm = Algorithm(
    "tritonforge-detector",
    description="Finds objects in images: boxes, classes, scores. Trained from boxes, served by Triton.",
    hyperparameters=[
        HyperParameter("epochs", "Integer", "Passes over the training data.", 5, minimum=1, maximum=10_000),
        HyperParameter("batch_size", "Integer", "Images in one step.", 3, minimum=1, maximum=1024, tunable=True),
        _part("learning_rate", 0.001, "How far a step goes.", tunable=True),
        HyperParameter("optimizer", "Categorical", "What takes the steps.", "adam", values=OPTIMIZERS, tunable=True),
        _part("beta_1", 0.9, "Decay of the first moment; for adam."),
        _part("beta_2", 0.999, "Decay of the second moment; for adam."),
        _part("momentum", 0.9, "How much of the last step is kept; for sgd, nesterov and rmsprop."),
        _part("rho", 0.95, "Decay of the squared gradients; for adadelta and rmsprop."),
        _part("epsilon", 1e-7, "Keeps divisions from zero; for adam, rmsprop, adagrad and adadelta."),
        _part("initial_accumulator_value", 0.1, "Where the sums of squares begin; for adagrad."),
        HyperParameter.flag(
            "early_stopping",
            "End when validation:localization_loss + classification_loss gets no better.",
            default=False,
        ),
        HyperParameter(
            "early_stopping_patience", "Integer", "Epochs without progress before that.", 5, minimum=1, maximum=10_000
        ),
        _part("early_stopping_min_delta", 0.0, "What counts as progress."),
        HyperParameter(
            "reinitialize_top_layer",
            "Categorical",
            "Begin with a new head on the given model: Auto does when the classes are other ones.",
            "Auto",
            values=("Auto", "True", "False"),
        ),
        HyperParameter.flag(
            "train_only_on_top_layer", "Train the head alone; the rest of the network stays as given.", default=False
        ),
        HyperParameter(
            "image_size",
            "Categorical",
            "Side of the square that every image is resized to, in pixels.",
            "160",
            values=SIDES,
        ),
        HyperParameter(
            "learning_rate_schedule",
            "Categorical",
            "cosine rises to learning_rate in a sixth of the steps and falls to 0; constant leaves it.",
            "cosine",
            values=("cosine", "constant"),
        ),
        HyperParameter("seed", "Integer", "First weights and order of images.", 0, minimum=0, maximum=2**31 - 1),
    ],
    channels=[
        Channel(
            "training",
            "images/ and annotations.json; in Pipe mode an augmented manifest, image then boxes.",
            required=True,
            **_DATA,
        ),
        Channel("validation", "As training; without it, every tenth image of training is kept apart.", **_DATA),
        Channel(
            "model",
            "model.tar.gz of an earlier training, to go on from.",
            content_types=("application/x-sagemaker-model", "application/x-tar", "application/gzip"),
            input_modes=("File", "FastFile"),
        ),
    ],
    metrics=[
        Metric("validation:localization_loss", r"Val_localization=([0-9\.]+)"),
        Metric("validation:classification_loss", r"Val_classification=([0-9\.]+)"),
        Metric("validation:mean_average_precision", r"Val_mAP50=([0-9\.]+)"),
        Metric("train:loss", r"loss=([0-9\.]+)."),
    ],
    objectives=[
        Objective("validation:localization_loss", "Minimize"),
        Objective("validation:mean_average_precision", "Maximize"),
    ],
    training_instance_types=_CPU,
    transform_instance_types=_CPU,
    realtime_instance_types=_CPU,
    content_types=["application/x-image"],
    response_types=["application/json", "application/json;verbose"],
)
