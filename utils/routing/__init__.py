"""From what is chosen in the Luna Model Router to the files that are loaded, without loading any."""
