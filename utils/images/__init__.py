"""Geometry and arithmetic of images and latents."""
