"""Runs reference and candidate side by side and judges."""
