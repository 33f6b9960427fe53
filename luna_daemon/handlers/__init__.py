"""What the daemon does for each request: check it, ask the scheduler, give the answer."""
