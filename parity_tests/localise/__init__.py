"""Finds the layer at which two networks part, and what is wrong with it."""
