"""Run the side that is judged: converted weights by torch, or an ONNX file by onnxruntime."""
