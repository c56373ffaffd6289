"""Runs the jobs that a plan needs."""
