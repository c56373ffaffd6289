"""Measurements from the snapshots of trained segments."""
