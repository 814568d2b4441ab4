"""The check of a release; it imports nothing of what builds or publishes one."""
