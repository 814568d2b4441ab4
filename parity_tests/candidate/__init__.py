"""The side to be judged: converted weights run by torch, or an ONNX file."""
