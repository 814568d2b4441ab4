"""TensorFlow formats: checkpoints and frozen graphs, read without TensorFlow."""
