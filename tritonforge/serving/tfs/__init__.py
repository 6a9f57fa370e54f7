"""Run a TensorFlow Serving package as SageMaker's container does: `tritonforge.serving.tfs.server.TfsServer`.

The package's handlers run in a process of their own (`worker`), in front of a predictor in another one
(tensorflow_model_server where it is installed, else `predictor`); a third one starts both (`container`).
"""
