"""Weights that Keras saved, read with h5py: neither Keras nor TensorFlow is imported, nothing run.

`h5` reads HDF5 files, `archive` the zip archives of Keras 3. Both yield TensorFlow's names: the
networks' records (`converter.architectures`) say which layer stands for which scope.
"""
