from __future__ import annotations

import pytest
from luna_collection.utils.errors import InputError
from luna_collection.utils.loras.block_weights import (
    FLUX,
    LAYOUTS,
    PRESETS,
    SD15,
    SDXL,
    block_of,
    layout_of,
    read_block_weights,
)


@pytest.mark.parametrize(
    ("key", "block"),
    [
        ("diffusion_model.input_blocks.4.1.proj_in.weight", "IN04"),
        ("diffusion_model.middle_block.1.proj_in.weight", "MID"),
        ("diffusion_model.output_blocks.11.0.in_layers.2.weight", "OUT11"),
        ("diffusion_model.time_embed.0.weight", "BASE"),
        ("diffusion_model.double_blocks.7.img_attn.qkv.weight", "D07"),
        ("diffusion_model.single_blocks.37.linear1.weight", "S37"),
        ("clip_l.transformer.text_model.encoder.layers.3.mlp.fc1.weight", "BASE"),
    ],
)
def test_the_block_of_a_weight(key, block):
    assert block_of(key) == block


def test_the_layout_of_a_model():
    def unet(count: int) -> list[str]:
        return [f"diffusion_model.input_blocks.{number}.0.weight" for number in range(count)]

    flux = ["diffusion_model.double_blocks.0.a.weight", "diffusion_model.single_blocks.0.a.weight"]
    assert layout_of(unet(12)) is SD15
    assert layout_of(unet(9)) is SDXL
    assert layout_of(flux) is FLUX
    assert layout_of(["diffusion_model.joint_blocks.0.a.weight"]) is None


ONLY_SD15 = ("MOUT", "MIDD0.2", "MIDD0.8")


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_every_preset_has_a_weight_for_every_block(layout):
    for name in set(PRESETS) - set(() if layout is SD15 else ONLY_SD15):
        weights = read_block_weights(name.lower(), layout)
        assert tuple(weights) == layout.blocks
    assert set(read_block_weights("ALL", layout).values()) == {1.0}
    assert set(read_block_weights("NONE", layout).values()) == {0.0}
    assert set(read_block_weights("ALL0.5", layout).values()) == {0.5}


@pytest.mark.parametrize(
    ("preset", "vector"),
    [
        ("INS", "1,1,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0"),
        ("IND", "1,0,0,0,1,1,1,0,0,0,0,0,0,0,0,0,0"),
        ("INALL", "1,1,1,1,1,1,1,0,0,0,0,0,0,0,0,0,0"),
        ("MIDD", "1,0,0,0,1,1,1,1,1,1,1,1,0,0,0,0,0"),
        ("OUTD", "1,0,0,0,0,0,0,0,1,1,1,1,0,0,0,0,0"),
        ("OUTS", "1,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,1"),
        ("OUTALL", "1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1"),
        ("MOUT", "1,0,0,0,0,0,1,1,1,1,1,1,1,1,0.5,0,0"),
        ("MIDD0.2", "1,0,0,0,0,0,0.2,0.4,0.4,0.2,0,0,0,0,0,0,0"),
        ("MIDD0.8", "1,0,0,0,0,0.5,0.8,0.8,0.4,0,0,0,0,0,0,0,0"),
    ],
)
def test_presets_are_the_usual_ones_in_the_blocks_with_attention(preset, vector):
    by_preset, by_vector = read_block_weights(preset, SD15), read_block_weights(vector, SD15)
    assert [by_preset[name] for name in SD15.short] == [by_vector[name] for name in SD15.short]


@pytest.mark.parametrize(
    ("written", "vector"),
    [
        ("SDXL-ALL", "1,1,1,1,1,1,1,1,1,1,1,1"),
        ("SDXL-INALL", "1,1,1,1,1,0,0,0,0,0,0,0"),
        ("sdxl-midall", "1,0,0,0,0,1,0,0,0,0,0,0"),
        ("SDXL-OUTALL", "1,0,0,0,0,0,1,1,1,1,1,1"),
    ],
)
def test_presets_may_have_the_name_of_a_model_in_front(written, vector):
    by_preset, by_vector = read_block_weights(written, SDXL), read_block_weights(vector, SDXL)
    assert [by_preset[name] for name in SDXL.short] == [by_vector[name] for name in SDXL.short]
    assert read_block_weights("SD-MIDD0.2", SD15) == read_block_weights("MIDD0.2", SD15)
    assert read_block_weights("SD-MIDD", SD15) == read_block_weights("MIDD", SD15)


@pytest.mark.parametrize("name", ONLY_SD15)
def test_presets_of_one_model_are_refused_on_others(name):
    with pytest.raises(InputError, match=r"are for SD1\.5, and this model is SDXL"):
        read_block_weights(name, SDXL)


@pytest.mark.parametrize(
    ("layout", "count"), [(SD15, 17), (SD15, 26), (SDXL, 12), (SDXL, 20), (FLUX, 58)]
)
def test_a_vector_names_the_blocks_in_order(layout, count):
    names = layout.short if count == len(layout.short) else layout.blocks
    weights = read_block_weights(",".join(str(n / 100) for n in range(count)), layout)
    assert [weights[name] for name in names] == [n / 100 for n in range(count)]
    assert tuple(weights) == layout.blocks


def test_a_block_that_is_not_named_works_like_its_neighbour():
    weights = read_block_weights(",".join(map(str, range(17))), SD15)
    assert (weights["IN00"], weights["IN03"], weights["IN11"]) == (
        weights["IN01"],
        weights["IN02"],
        weights["IN08"],
    )
    assert weights["OUT00"] == weights["OUT03"] == 8


def test_letters_and_single_blocks():
    vector = ",".join(["1", "A", *["0"] * 14, "b"])
    weights = read_block_weights(f"{vector};A=0.25;B=-2", SD15)
    assert (weights["IN01"], weights["OUT11"]) == (0.25, -1.0)  # a small letter is half of it
    weights = read_block_weights("IN04:0.5,MID=0", SDXL)
    assert (weights["IN04"], weights["MID"], weights["IN05"]) == (0.5, 0.0, 1.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,0", "2 values, which does not fit SD1.5.*17 or 26"),
        ("1,x,0", "'x' is no number"),
        ("SUNNY", "'SUNNY' is no number.*Presets are NONE"),
        ("", "empty"),
        ("XX01:1", "block 'XX01' that SD1.5 does not have"),
        ("ALL;NONE", "something else: 'NONE'"),
        ("1,nan", "'nan' is no number"),
    ],
)
def test_what_does_not_fit_is_said(text, said):
    with pytest.raises(InputError, match=said):
        read_block_weights(text, SD15)
