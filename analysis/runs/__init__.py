"""Runs put together from datasets."""
