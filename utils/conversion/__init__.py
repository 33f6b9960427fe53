"""Diffusion models in other precisions: streamed from file to file, once per source and target."""
