"""Modules of the models, and their initialisation. They import torch, which the kinds in `analysis.models` do not."""
