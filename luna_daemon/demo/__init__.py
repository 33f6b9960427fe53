"""The demonstration: three workflows in three processes, first on their own, then through the daemon."""
