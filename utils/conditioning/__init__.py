"""CONDITIONING as ComfyUI's nodes pass it: a list of [tensor, options]."""
