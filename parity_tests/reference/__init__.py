"""Run the TensorFlow side, or record it and read the record."""
