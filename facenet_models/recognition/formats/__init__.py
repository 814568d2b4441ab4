"""File formats of embeddings: one module each, chosen by suffix in `files`."""
