"""Sharp and flat directions of neural-network training: curvature, training segments, figures."""
