"""Run an ONNX file, ours or another's: find out how it takes images, and what it answers."""
