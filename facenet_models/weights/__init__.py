"""Weights for the networks: the registry, the download, the cache, releases as a source."""
