"""Making what a plan asks for."""
