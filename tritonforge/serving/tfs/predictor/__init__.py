"""The predictor that stands in for TensorFlow Serving: TensorFlow in a process of its own, behind the same REST API.

``python -m tritonforge.serving.tfs.predictor`` takes the flags that tensorflow_model_server is given by SageMaker's
container. Requests are batched by the scheduler that TensorFlow Serving uses too (`servable`). It has no gRPC.
"""
