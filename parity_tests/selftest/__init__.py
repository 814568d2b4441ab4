"""Breaks a right candidate, one defect at a time, and counts what the judge misses."""
