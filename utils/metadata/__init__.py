"""What pictures say about how they were made."""
