"""Modules that all packages use: errors, text, files, hashes, progress, commands; no framework."""
