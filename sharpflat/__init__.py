"""The library: curvature of anybody's own model, and optimizers that use it."""
