from __future__ import annotations

import pytest
from luna_collection.utils.errors import InputError
from luna_collection.utils.model_types import MODEL_TYPES, VAE_ROLE, find_model_type


@pytest.mark.parametrize(
    ("name", "text_encoders"), [("SD1.5", ("clip_l",)), ("SDXL", ("clip_l", "clip_g"))]
)
def test_a_family_needs_these_text_encoders(name: str, text_encoders: tuple[str, ...]) -> None:
    assert find_model_type(name).text_encoders == text_encoders


def test_every_family_is_found_under_its_name() -> None:
    assert [find_model_type(name).name for name in MODEL_TYPES] == list(MODEL_TYPES)


@pytest.mark.parametrize("name", ["sdxl", "SD3", "", "SDXL "])
def test_an_unknown_family_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(InputError) as refused:
        find_model_type(name)
    assert refused.value.message == f"There is no model type '{name}'."
    assert all(f"'{known}'" in refused.value.hint for known in MODEL_TYPES)


def test_a_vae_is_no_text_encoder() -> None:
    assert all(VAE_ROLE not in kind.text_encoders for kind in MODEL_TYPES.values())
