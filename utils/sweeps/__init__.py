"""Sweeps: runs over the combinations of named values."""
