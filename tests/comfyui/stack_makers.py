"""A custom node pack for the tests: LORA_STACK as the nodes of other packs make it.

Each form is what the code of that pack appends to its list; ComfyUI carries it to our nodes unchanged.
"""

from __future__ import annotations

FIRST = "style.safetensors"
FORMS = {
    "Efficiency": lambda: [(FIRST, 0.5, 0.25), (FIRST, 1.0, 1.0)],
    "Comfyroll": lambda: [(FIRST, 0.5, 0.25), ("None", 1.0, 1.0), (FIRST, 1.0, 1.0)],
    "Easy-Use": lambda: [[FIRST, 0.5, 0.25], [FIRST, 1.0, 1.0]],
    "Lora-Manager": lambda: [(FIRST, 0.5, 0.25), (FIRST, 1, 1)],
    "dicts": lambda: [
        {"lora": FIRST, "model_strength": 0.5, "clip_strength": 0.25},
        {"lora": FIRST, "strength": 1.0},
    ],
}
_given = []  # every stack that was handed out, to see later that nobody has changed it


class StackMaker:
    """Gives a stack in one of the forms."""

    CATEGORY, FUNCTION = "tests", "make"
    RETURN_TYPES = ("LORA_STACK",)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"form": (list(FORMS),)}}

    def make(self, form):
        made = FORMS[form]()
        _given.append((form, made))
        return (made,)


class StackText:
    """Shows a stack, and whether all stacks that were handed out are as they were."""

    CATEGORY, FUNCTION = "tests", "show"
    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"lora_stack": ("LORA_STACK",)}}

    def show(self, lora_stack):
        same = all(made == FORMS[form]() for form, made in _given)
        return (f"{lora_stack!r} {'unchanged' if same else 'changed'}",)


NODE_CLASS_MAPPINGS = {"StackMaker": StackMaker, "StackText": StackText}
