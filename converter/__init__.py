"""Weights in, weights out: TensorFlow checkpoints to PyTorch state_dicts and back, with NumPy only.

Neither TensorFlow nor torch is imported anywhere in this package.
"""

__version__ = "0.1.0"
