"""What models are built of: modules and their initialisation. They import torch; the kinds beside do not."""
