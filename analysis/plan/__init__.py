"""What is to be made, from configuration alone; nothing here waits for torch."""
