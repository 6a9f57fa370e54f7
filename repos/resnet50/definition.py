"""ResNet-50 as SavedModels: behind DALI preprocessing in an ensemble, and alone on encoded images."""

from network import CLASSES, CLASSES_WITH_BACKGROUND, SIDE, image_bytes_network, network, preprocess

from tritonforge import (
    TYPE_FP32,
    TYPE_INT64,
    TYPE_STRING,
    TYPE_UINT8,
    Dali,
    DynamicBatching,
    Ensemble,
    Function,
    Input,
    Output,
    Tensor,
    TensorFlow,
)

preprocess_resnet50 = Dali(
    "preprocess_resnet50",
    max_batch_size=32,
    input=[Input("encoded", TYPE_UINT8, [-1], allow_ragged_batch=True)],
    output=[Output("pixels", TYPE_FP32, [SIDE, SIDE, 3])],
    dynamic_batching=DynamicBatching(),
    parameters={"num_threads": 2},
    pipeline=preprocess,
)

resnet50 = TensorFlow(
    "resnet50",
    max_batch_size=32,
    input=[Input("input", TYPE_FP32, [SIDE, SIDE, 3], format="FORMAT_NHWC")],
    output=[Output("probabilities", TYPE_FP32, [CLASSES], label_filename="resnet50_labels.txt")],
    dynamic_batching=DynamicBatching(),
    artifact=Function(build=network, random_weights=True),
)

ensemble_resnet50 = Ensemble(
    "ensemble_resnet50",
    outputs={"OUTPUT": resnet50(preprocess_resnet50(Tensor("INPUT"), to="pixels"))},
)

#: The SavedModel of TensorFlow Serving's own examples: it takes the encoded image and decodes it in the graph.
resnet50_image_bytes = TensorFlow(
    "resnet50_image_bytes",
    max_batch_size=32,
    input=[Input("image_bytes", TYPE_STRING, [1], reshape=[])],
    output=[
        Output("classes", TYPE_INT64, [1], reshape=[]),
        Output("probabilities", TYPE_FP32, [CLASSES_WITH_BACKGROUND]),
    ],
    artifact=Function(build=image_bytes_network, random_weights=True),
)
