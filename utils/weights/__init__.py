"""Model files as files: what their headers say, without loading a weight."""
