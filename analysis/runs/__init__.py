"""Runs that are assembled from datasets."""
