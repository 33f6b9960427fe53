from __future__ import annotations

import pytest
from luna_collection.utils.errors import InputError
from luna_collection.utils.model_types import (
    KINDS_OF_ROLE,
    MODEL_TYPES,
    NAME_OF_ROLE,
    POOL_OF_ROLE,
    VAE_ROLE,
    find_model_type,
)


@pytest.mark.parametrize(
    ("name", "text_encoders", "clip_type"),
    [
        ("SD1.5", ("clip_l",), "STABLE_DIFFUSION"),
        ("SDXL", ("clip_l", "clip_g"), "STABLE_DIFFUSION"),
        ("SDXL+Vision", ("clip_l", "clip_g"), "STABLE_DIFFUSION"),
        ("Flux", ("clip_l", "t5xxl"), "FLUX"),
        ("Flux+Vision", ("clip_l", "t5xxl"), "FLUX"),
        ("SD3", ("clip_l", "clip_g", "t5xxl"), "SD3"),
        ("Z-IMAGE", ("qwen3",), "LUMINA2"),
        ("Other", (), ""),
    ],
)
def test_a_family_needs_these_text_encoders(name, text_encoders, clip_type):
    kind = find_model_type(name)
    assert (kind.text_encoders, kind.clip_type) == (text_encoders, clip_type)


def test_every_family_is_found_under_its_name() -> None:
    assert [find_model_type(name).name for name in MODEL_TYPES] == list(MODEL_TYPES)


@pytest.mark.parametrize("name", ["sdxl", "SD4", "", "SDXL "])
def test_an_unknown_family_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(InputError) as refused:
        find_model_type(name)
    assert refused.value.message == f"There is no model type '{name}'."
    assert all(f"'{known}'" in refused.value.hint for known in MODEL_TYPES)


def test_a_vae_is_no_text_encoder() -> None:
    assert all(VAE_ROLE not in kind.text_encoders for kind in MODEL_TYPES.values())


def test_every_role_has_a_pool_a_name_and_kinds_of_files() -> None:
    roles = {role for kind in MODEL_TYPES.values() for role in kind.text_encoders}
    assert roles == set(KINDS_OF_ROLE)
    assert roles <= set(NAME_OF_ROLE)
    assert {POOL_OF_ROLE[role] for role in roles} == {"clip"}


def test_the_embedded_engine_knows_the_families_whose_outputs_are_joined() -> None:
    joined = {name for name, kind in MODEL_TYPES.items() if kind.joined}
    assert joined == {"SD1.5", "SDXL", "SDXL+Vision"}
