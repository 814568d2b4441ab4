"""What all packages share: errors, text, files, hashes, progress, commands; no framework."""
