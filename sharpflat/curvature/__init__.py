"""Curvature of training losses: exact products, eigenspaces, energies, densities."""
