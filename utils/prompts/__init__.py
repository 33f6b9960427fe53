"""Prompts: what their text says beside words."""
