"""Nodes for LoRAs and embeddings: the category Luna/LoRA."""
