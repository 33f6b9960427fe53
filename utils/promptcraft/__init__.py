"""PromptCraft: prompts from categories of items that take notice of each other. `crafting.py` has the call."""

from ..seeded_draw import seed_of
from .counting import count_combinations
from .crafting import Crafted, Pick, Settings, craft
from .items import Item, tags_of
from .library import CraftLibrary

__all__ = [
    "CraftLibrary",
    "Crafted",
    "Item",
    "Pick",
    "Settings",
    "count_combinations",
    "craft",
    "seed_of",
    "tags_of",
]
