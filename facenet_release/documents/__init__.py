"""The documents of a release: recipe, manifest, cards, attestations, bill of materials."""
