"""Nodes that make texts of texts: the category Luna/Text."""
