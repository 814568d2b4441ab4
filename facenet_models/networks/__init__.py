"""The networks, as modules: no downloads, no files."""
