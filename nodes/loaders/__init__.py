"""Nodes that load models: the category Luna/Loaders."""
