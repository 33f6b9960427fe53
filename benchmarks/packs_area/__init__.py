"""Nodes of other packs on models that the daemon holds, against the same nodes on ComfyUI's own objects."""
