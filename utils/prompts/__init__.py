"""Prompts as text: what is written in them for us, and what is left for the text encoder."""
