"""Building a release from a recipe, and building it again."""
