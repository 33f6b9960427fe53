"""Worker processes: how they are started, spoken to, watched and replaced, and what runs in them."""
