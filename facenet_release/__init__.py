"""Releases of converted weights: build, check, sign, publish and rebuild them.

A release is one folder without subfolders; its manifest describes every file. ``documents``
describes the files of a release, ``building`` makes them, ``checking`` checks them, and
``channels`` are the places where releases are published.
"""
