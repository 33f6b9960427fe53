"""Pure logic: standard library, numpy, torch, PIL, yaml, safetensors. Never ComfyUI, never a socket."""
