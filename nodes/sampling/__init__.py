"""Samplers that take a pipe, and the first-block cache."""
