"""Nodes that convert models and look after what was made of them: the category Luna/Precision."""
