"""LoRAs: stacks of them, their names and their files."""
