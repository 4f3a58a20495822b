"""Networks as graphs that other programs can run: ONNX files and exported programs."""
