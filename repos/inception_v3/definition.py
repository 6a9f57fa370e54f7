"""DALI preprocessing, Inception V3, and the ensemble of both: JPEG bytes in, 1001 probabilities out."""

from network import OFFICIAL_MEMBER, OFFICIAL_SHA256, OFFICIAL_URL, network, preprocess

from tritonforge import (
    TYPE_FP32,
    TYPE_UINT8,
    Dali,
    Download,
    Ensemble,
    Function,
    Input,
    Output,
    Tensor,
    TensorFlow,
)

dali = Dali(
    "dali",
    max_batch_size=256,
    input=[Input("DALI_INPUT_0", TYPE_UINT8, [-1])],
    output=[Output("DALI_OUTPUT_0", TYPE_FP32, [299, 299, 3])],
    parameters={"num_threads": 12},
    pipeline=preprocess,
)

inception_graphdef = TensorFlow(
    "inception_graphdef",
    platform="tensorflow_graphdef",
    max_batch_size=256,
    input=[Input("input", TYPE_FP32, [299, 299, 3], format="FORMAT_NHWC")],
    output=[Output("InceptionV3/Predictions/Softmax", TYPE_FP32, [1001], label_filename="inception_labels.txt")],
    artifact=Download(
        url=OFFICIAL_URL,
        sha256=OFFICIAL_SHA256,
        member=OFFICIAL_MEMBER,
        fallback=Function(build=network, random_weights=True),
    ),
)

preprocessed_image = dali(Tensor("INPUT"), to="preprocessed_image")
ensemble_dali_inception = Ensemble(
    "ensemble_dali_inception", outputs=[inception_graphdef(preprocessed_image, to="OUTPUT")]
)
