"""Nodes that make prompts from categories: the categories Luna/PromptCraft and Luna/Text."""
