"""What a trained network says of recordings: labels, from a run or an ONNX file, and embeddings."""
