"""Estimates the cost of a plan without running it: `python -m analysis plan`."""
