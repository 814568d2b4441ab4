"""Releases of converted weights: built from a recipe, proved, signed, published and checked again.

A release is one flat folder. `manifest` says what is in it; everything else stands on that.
"""
