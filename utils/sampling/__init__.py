"""What a sampler gets, and what saves it work."""
