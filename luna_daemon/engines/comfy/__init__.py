"""The comfy engine: whole objects of ComfyUI, run by ComfyUI's own code.

Call `boot` of boot.py before anything else here is imported: ComfyUI reads its settings while it is
imported.
"""
