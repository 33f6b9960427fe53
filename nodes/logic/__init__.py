"""Nodes that compute, compare and choose: the category Luna/Logic."""
