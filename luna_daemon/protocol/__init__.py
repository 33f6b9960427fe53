"""The contract between client, daemon and worker: messages, their bytes and their limits."""
