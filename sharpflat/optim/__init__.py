"""Optimizers that act on subspaces."""
