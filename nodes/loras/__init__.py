"""LoRAs in this process, and the nodes that choose them."""
