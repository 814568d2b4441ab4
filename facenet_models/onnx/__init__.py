"""The networks as ONNX files and graphs, and the runtime for them."""
