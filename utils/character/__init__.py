"""Faces and poses of one character: names, prompts, and sheets that are cut into pictures."""
