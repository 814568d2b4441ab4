"""PyTorch formats: the .pt files of torch.save, read without torch."""
