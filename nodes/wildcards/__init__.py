"""Nodes that make texts from wildcards, and tools for their files: the category Luna/Wildcards."""
