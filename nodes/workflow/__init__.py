"""Nodes about the graph and the daemon: the category Luna/Workflow."""
