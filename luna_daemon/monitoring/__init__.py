"""What the daemon did and does: metrics, the status, the log, and the port that shows them."""
