"""From a trained float network to an integer ONNX graph that ONNX Runtime runs as integers."""
