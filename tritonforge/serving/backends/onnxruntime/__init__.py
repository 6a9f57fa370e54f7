"""The ``onnxruntime`` backend: ONNX files."""
