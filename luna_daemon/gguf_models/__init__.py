"""Models from GGUF files as objects of ComfyUI, whose weights stay as the file has them until they are used."""
