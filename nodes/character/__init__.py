"""Nodes for faces and poses of one character: the category Luna/Character."""
