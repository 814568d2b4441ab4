"""Run reference and candidate on the same images, and judge whether they compute the same."""
