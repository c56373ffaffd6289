"""What a plan would take, without running it: `python -m analysis plan`."""
