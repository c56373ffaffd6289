"""The plan of everything to make, derived from the configuration alone. Nothing here imports torch."""
