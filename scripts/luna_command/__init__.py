"""What `luna.py` does: the environment, the daemon's start, the tests. Standard library only."""
