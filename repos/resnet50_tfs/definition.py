"""ResNet-50 as a package for SageMaker's TensorFlow Serving containers: a numbered SavedModel, and its handlers.

``tritonforge build repos/resnet50_tfs`` makes the folder that becomes ``model.tar.gz``::

    resnet50/1538687370/saved_model.pb, variables/      the model, by its number
    code/inference.py                                   the handlers
    code/lib/tfexample.py                               what they import
    code/requirements.txt                               the packages to install for them: none

It serves the two batch transform jobs of AWS's post "Performing batch inference with TensorFlow Serving in Amazon
SageMaker". JPEG objects are sent whole::

    TransformInput={"ContentType": "application/x-image", ...}, BatchStrategy="SingleRecord"

TFRecords of ``tf.Example`` are split into their records, whose predictions come back as lines::

    TransformInput={"ContentType": "application/x-tfexample", "SplitType": "TFRecord", ...},
    TransformOutput={"AssembleWith": "Line", ...}, BatchStrategy="SingleRecord",
    Environment={"SAGEMAKER_TFS_ENABLE_BATCHING": "true", "SAGEMAKER_TFS_MAX_BATCH_SIZE": "16", ...}

Left out, BatchStrategy is MultiRecord, which sends the records with their framing, as many as fit into a request. The
handlers take these too and answer with a line for each, but a request must not have more records than
SAGEMAKER_TFS_MAX_BATCH_SIZE where TensorFlow Serving batches requests.
"""

from network import CLASSES_WITH_BACKGROUND, network

from tritonforge import TYPE_FP32, TYPE_INT64, TYPE_STRING, Function, Input, Output, TensorFlow, TensorFlowServing

resnet50 = TensorFlow(
    "resnet50",
    input=[Input("image_bytes", TYPE_STRING, [-1])],
    output=[Output("classes", TYPE_INT64, [-1]), Output("probabilities", TYPE_FP32, [-1, CLASSES_WITH_BACKGROUND])],
    artifact={1538687370: Function(build=network, random_weights=True)},
)

package = TensorFlowServing([resnet50], code="code")
