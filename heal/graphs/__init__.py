"""Networks as graphs for other runtimes: ONNX files and exported programs."""
