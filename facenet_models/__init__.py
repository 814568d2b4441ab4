"""The PyTorch networks and the face pipeline. Never imports converter."""
