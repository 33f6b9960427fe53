"""What the project measures about itself: `luna.py bench`."""
