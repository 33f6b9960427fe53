"""The soak: clients of all kinds, good and bad, while workers, clients and the daemon are killed."""
