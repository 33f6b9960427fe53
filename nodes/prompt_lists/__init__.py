"""Nodes for lists of prompts, read from files and made of pictures: the category Luna/Prompt Lists."""
