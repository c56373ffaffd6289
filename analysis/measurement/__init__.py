"""Measured from snapshots of trained segments."""
