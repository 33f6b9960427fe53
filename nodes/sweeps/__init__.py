"""Nodes for runs over combinations of values: the category Luna/Sweeps."""
