"""The TensorFlow side: the original graph run live, or its recorded answers."""
