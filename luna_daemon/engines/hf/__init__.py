"""The embedded engine: model folders in diffusers' layout, through transformers and diffusers."""
