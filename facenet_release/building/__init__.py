"""The build of a release from a recipe, and the rebuild that compares the bytes."""
