"""The demonstration with real ComfyUI servers; its parts also serve the tests with ComfyUI."""
