"""Checking a release: hashes, tensors, evidence, structure. Imports nothing of the builder."""
