"""Diffusion models from GGUF files give what ComfyUI's own loader gives for the dequantised weights."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ..loras.conftest import assert_weights
from .conftest import ALL_TYPES, Pair, runs

FAMILIES = ("sd15", "sdxl", "sd3", "wan")


def weights_of(model: Any) -> list[Any]:
    from luna_collection.luna_daemon.gguf_models.weight import GgufWeight

    return [weight for weight in model.model.parameters() if isinstance(weight, GgufWeight)]


def values(model: Any) -> dict[str, torch.Tensor]:
    from luna_collection.luna_daemon.gguf_models.weight import in_values

    return {name: in_values(weight) for name, weight in model.model.state_dict().items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_is_equal(pair_of, family):
    pair = pair_of(family)
    ours, stock = pair.ours(), pair.stock()
    assert ours.model_dtype() == stock.model_dtype() == torch.float32
    assert len(weights_of(ours)) > 10
    assert torch.isfinite(result := runs(ours, family)).all()
    assert torch.equal(result, runs(stock, family))
    assert_weights(values(ours), values(stock))


@pytest.mark.parametrize("kind", ALL_TYPES)
def test_a_run_is_equal_in_each_type(pair_of, kind):
    pair = pair_of("sd15", [kind, "Q8_0"])
    ours = pair.ours()
    assert torch.equal(runs(ours, "sd15"), runs(pair.stock(), "sd15"))
    assert kind in {weight.kind for weight in weights_of(ours)}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("family", ["sd15", "wan"])
def test_a_run_is_equal_with_weights_in_half_precision(pair_of, family, dtype):
    pair = pair_of(family)
    ours, stock = pair.ours(dtype=dtype), pair.stock(dtype=dtype)
    assert ours.model_dtype() == stock.model_dtype() == dtype
    assert torch.equal(runs(ours, family), runs(stock, family))
    assert_weights(values(ours), values(stock))


def test_an_option_for_fp8_does_not_round_quantised_weights(pair_of):
    pair = pair_of("sd15", ["Q8_0", "Q4_K"])
    ours, exact = pair.ours(dtype=torch.float8_e4m3fn), pair.ours()
    assert torch.isfinite(runs(ours, "sd15")).all()
    for one, other in zip(weights_of(ours), weights_of(exact), strict=True):
        assert torch.equal(one.values(), other.values())


def test_weights_stay_in_the_file(pair_of):
    pair = pair_of("sdxl", ["Q4_K", "Q5_0"])
    ours, stock = pair.ours(), pair.stock()
    runs(ours, "sdxl")
    dense = sum(weight.numel() * 4 for weight in ours.model.parameters())
    assert stock.model_size() == pytest.approx(dense, rel=0.01)
    assert ours.model_size() == pytest.approx(pair.gguf.stat().st_size, rel=0.02)
    assert ours.model_size() < 0.2 * stock.model_size()
    mapped = weights_of(ours)[0].raw.untyped_storage().data_ptr()
    assert all(weight.raw.untyped_storage().data_ptr() == mapped for weight in weights_of(ours))


def test_copies_share_the_bytes(pair_of):
    ours = pair_of("sd15").ours()
    before = runs(ours, "sd15")
    clone, deep = ours.clone(), copy.deepcopy(ours.model.diffusion_model)
    assert clone.is_clone(ours)
    assert torch.equal(runs(clone, "sd15"), before)
    for one, other in zip(deep.parameters(), ours.model.diffusion_model.parameters(), strict=True):
        assert type(one) is type(other)
        assert not hasattr(one, "raw") or one.raw is other.raw
    ours.model.to("cpu")
    assert torch.equal(runs(ours, "sd15"), before)


def test_unloading_and_loading_again(pair_of):
    import comfy.model_management

    ours = pair_of("sd15").ours()
    before = runs(ours, "sd15")
    count = len(weights_of(ours))
    comfy.model_management.unload_all_models()
    assert torch.equal(runs(ours, "sd15"), before)
    assert len(weights_of(ours)) == count


def test_nodes_that_load_a_model_again_get_the_same(pair_of):
    pair = pair_of("sd15")
    ours = pair.ours()
    function, arguments = ours.cached_patcher_init
    again = function(*arguments, disable_dynamic=True)
    assert not again.is_clone(ours)
    assert torch.equal(runs(again, "sd15"), runs(ours, "sd15"))
    if hasattr(ours, "deepclone_multigpu"):  # since ComfyUI 0.24
        patched = with_diff(ours)
        copied = patched.deepclone_multigpu(torch.device("cpu"))
        assert type(copied) is type(ours)
        assert torch.equal(runs(copied, "sd15"), runs(patched, "sd15"))


def test_weights_are_not_written_into(pair_of):
    ours = pair_of("sd15").ours()
    with pytest.raises(TypeError, match="quantised"):
        weights_of(ours)[0].mul_(2.0)
    with pytest.raises(TypeError, match="replaced, never changed"):
        weights_of(ours)[0].data.copy_(torch.zeros(weights_of(ours)[0].shape))


def test_saving_writes_the_values(pair_of, tmp_path, monkeypatch):
    import comfy.sd
    import comfy.utils
    import folder_paths
    from comfy_extras.nodes_model_merging import ModelSave

    pair = pair_of("sd15")
    patched = with_diff(pair.ours())
    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path))
    node = ModelSave()
    node.output_dir = str(tmp_path)
    node.save(patched, "saved")
    saved = comfy.utils.load_torch_file(str(next(tmp_path.glob("*.safetensors"))))
    held = {f"model.{name}": tensor for name, tensor in values(patched).items()}
    assert saved.keys() <= held.keys()
    assert len(saved) > 100
    assert all(torch.equal(tensor, held[name]) for name, tensor in saved.items())


def test_what_saves_the_bytes_by_itself_is_refused(pair_of, tmp_path):
    with pytest.raises(TypeError, match="quantised"):
        save_file({"weight": weights_of(pair_of("sd15").ours())[0]}, tmp_path / "x.safetensors")


@pytest.mark.parametrize("target", ["gguf_Q8_0", "gguf_Q4_K_M"])
def test_files_that_are_converted_here(sd15_files, target):
    from luna_collection.luna_daemon.gguf_models.reading import read_gguf
    from luna_collection.luna_daemon.gguf_models.weight import in_values
    from luna_collection.utils.conversion.converting import converted_once

    folder = sd15_files / "diffusion_models"
    source = folder / "sd15_unet.safetensors"
    made = converted_once(source, target, folder).path
    plain = made.with_suffix(".safetensors")
    save_file({name: in_values(weight) for name, weight in read_gguf(made).items()}, plain)
    pair = Pair(made, plain)
    ours = pair.ours()
    assert {"gguf_Q8_0": "Q8_0", "gguf_Q4_K_M": "Q4_K"}[target] in {
        w.kind for w in weights_of(ours)
    }
    assert torch.equal(runs(ours, "sd15"), runs(pair.stock(), "sd15"))
    source_result = runs(Pair(made, source).stock(), "sd15")
    difference = runs(ours, "sd15") - source_result
    assert 0 < float(difference.norm() / source_result.norm()) < 0.5


@pytest.mark.parametrize("family", ["sdxl", "sd15"])
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_files_of_stable_diffusion_cpp(pair_of, gguf_folder, family, prefix):
    """They name no architecture, and hold linear layers of SDXL as convolutions."""
    from . import gguf_files, small_models

    pair = pair_of(family, ["Q8_0", "Q4_K"])
    entries = gguf_files.mixture(small_models.FAMILIES[family][0](), ["Q8_0", "Q4_K"])
    ends = (".proj_in.weight", ".proj_out.weight")
    others = {}
    for name, (kind, shape, content) in entries.items():
        if family == "sdxl" and name.endswith(ends) and len(shape) == 2:
            shape = (*shape, 1, 1)
        others[f"{prefix}{name}"] = (kind, shape, content)
    # Shapes of four dimensions are stored with rows of one number: no quantised type has such.
    others = {
        name: gguf_files.plain(entry) if entry[1][-2:] == (1, 1) else entry
        for name, entry in others.items()
    }
    path = gguf_files.write_gguf(gguf_folder / f"cpp {family}{prefix}.gguf", "", others)

    ours = Pair(path, path).ours()

    assert torch.equal(runs(ours, family), runs(pair.stock(), family))


@pytest.mark.parametrize("architecture", ["pig", "cow", "sdxl"])
def test_the_name_of_an_architecture_does_not_matter(pair_of, gguf_folder, architecture):
    from . import gguf_files, small_models

    pair = pair_of("wan", ["Q8_0"])
    entries = gguf_files.mixture(small_models.FAMILIES["wan"][0](), ["Q8_0"])
    fields = [("general.file_type", 7), ("general.name", "x")]
    path = gguf_files.write_gguf(
        gguf_folder / f"{architecture}.gguf", architecture, entries, fields
    )

    assert torch.equal(runs(Pair(path, path).ours(), "wan"), runs(pair.stock(), "wan"))


def test_a_model_that_comfyui_does_not_know(gguf_folder):
    from . import gguf_files

    entries = {"strange.weight": gguf_files.entry_of(torch.ones(64, 64), "Q8_0", 1)}
    path = gguf_files.write_gguf(gguf_folder / "strange.gguf", "strange", entries)
    assert Pair(path, path).ours() is None


def with_diff(model: Any) -> Any:
    """Patch a weight as merging nodes do."""
    clone = model.clone()
    name = "diffusion_model.time_embed.0.weight"
    diff = torch.full_like(values(model)[name], 0.01)
    assert clone.add_patches({name: (diff,)}, 0.5)
    return clone
