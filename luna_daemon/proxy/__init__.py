"""ComfyUI objects whose weights the daemon holds. Imported only inside ComfyUI."""
