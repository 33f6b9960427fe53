"""Workflows with the Luna Model Router on a real ComfyUI, over HTTP, without a daemon."""

from __future__ import annotations

import os

import pytest

from .comfy_server import BOOT_TIMEOUT_S, RunFailedError
from .gguf import gguf_files
from .router_models import taesd, write
from .workflows import OUTPUTS, SD15, STOCK, drawing, pixels, router, showing, with_lora

pytestmark = pytest.mark.timeout(BOOT_TIMEOUT_S + 200)


@pytest.mark.parametrize("edit", [lambda prompt: prompt, with_lora], ids=["plain", "with a LoRA"])
def test_the_image_is_that_of_comfyuis_own_loader(server, edit):
    ours = pixels(server.image(edit(drawing(router()))))
    assert ours == pixels(server.image(edit(drawing(STOCK))))


def test_files_of_their_own_give_the_same_image_as_the_checkpoint(server):
    apart = router(
        model_source="diffusion_models",
        model_name="sd15_unet.safetensors",
        model_type="SD1.5",
        model_type__clip_l="clip_l.safetensors",
        vae_name="sdxl_vae.safetensors",
    )
    assert pixels(server.image(drawing(apart))) == pixels(server.image(drawing(STOCK)))


def test_the_status_says_what_auto_found(server):
    prompt = showing(drawing(router(), text="status"), "status")
    (status,) = server.texts(prompt, "9")
    assert status.splitlines() == [
        f"[SD1.5] local | MODEL: {SD15} | CLIP: from checkpoint | VAE: from checkpoint",
        f"Auto: '{SD15}' is a checkpoint (SD1.5) with CLIP-L, VAE.",
    ]


def test_only_what_is_linked_is_loaded_and_a_new_link_is_noticed(server):
    alone = {"1": router(vae_name="None")}
    (status,) = server.texts(showing(alone, "status"), "9")
    assert status.splitlines()[0] == "[SD1.5] nothing shared"
    linked = {**alone, "2": drawing(STOCK)["2"]}
    linked["3"] = {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}}
    (status,) = server.texts(showing(linked, "status"), "9")
    assert status.splitlines()[0] == "[SD1.5] local | CLIP: from checkpoint"


def test_a_second_run_of_the_same_graph_loads_nothing_again(server):
    server.image(drawing(router(), text="first"))
    before = server.log.read_text("utf-8", "replace").count("model_type EPS")
    server.image(drawing(router(), text="second"))
    assert server.log.read_text("utf-8", "replace").count("model_type EPS") == before


def test_a_file_that_was_replaced_is_loaded_again(server):
    models = server.base / "models"
    replaced = write(models, "vae/replaced.safetensors", taesd(2))
    prompt = drawing(router(vae_name="replaced.safetensors"))
    before = pixels(server.image(prompt))
    os.replace(write(models, "vae/other.safetensors", taesd(9)), replaced)
    assert pixels(server.image(prompt)) != before


def test_a_checkpoint_with_code_in_it_is_refused_in_words_and_the_code_not_run(server):
    torch = pytest.importorskip("torch")
    ran = server.base / "the code was run"

    class Code:
        def __reduce__(self):
            return os.mkdir, (str(ran),)

    torch.save({"state_dict": Code()}, server.base / "models/checkpoints/evil.ckpt")
    with pytest.raises(RunFailedError) as failed:
        server.run(
            drawing(
                router(
                    model_name="evil.ckpt",
                    model_type="SD1.5",
                    model_type__clip_l="from checkpoint",
                )
            )
        )
    message = failed.value.details[0]["exception_message"]
    assert message.startswith("ComfyUI does not load 'evil.ckpt': ")
    assert "weights_only" not in message
    assert not ran.exists()


def test_a_workflow_that_was_saved_on_another_system_finds_its_files(server):
    """Windows writes other separators between a folder and a file."""
    models = server.base / "models"
    for kind, name in (("checkpoints", SD15), ("text_encoders", "clip_l.safetensors")):
        folder = models / kind / "below"
        folder.mkdir(exist_ok=True)
        os.link(models / kind / name, folder / name)
    windows = router(
        model_name=f"below\\{SD15}",
        model_type="SD1.5",
        model_type__clip_l="below\\clip_l.safetensors",
    )
    prompt = drawing(windows)
    assert pixels(server.image(prompt)) == pixels(server.image(drawing(STOCK)))


def test_everything_that_is_missing_comes_in_one_message_before_anything_loads(server):
    broken = router(
        model_source="diffusion_models",
        model_name="sd15_unet.safetensors",
        model_type="SDXL",
        model_type__clip_l="clip_l.safetensors",
        model_type__clip_g="from checkpoint",
        vae_name="None",
    )
    with pytest.raises(RunFailedError) as failed:
        server.run(drawing(broken))
    (error,) = failed.value.details
    assert error["node_id"] == "1"
    message = error["exception_message"]
    assert "'sd15_unet.safetensors' is a diffusion model (SD1.5), but SDXL is chosen" in message
    assert "clip_g: 'from checkpoint' cannot be mixed with files" in message
    assert "vae_name: the output vae is linked, and nothing is chosen" in message
    assert "'sdxl_vae.safetensors'" in message


@pytest.mark.parametrize(
    "inputs", [{"model_type": "Bogus"}, {"model_type": {"model_type": "Auto"}}], ids=str
)
def test_a_model_type_that_comfyui_does_not_check_is_refused_in_words(server, inputs):
    with pytest.raises(RunFailedError, match="model_type is missing or none that the router knows"):
        server.run(drawing(router(**inputs)))


def test_an_ip_adapter_is_handed_on_in_two_halves(server):
    prompt = {"1": router(ip_adapter_name="tiny.safetensors")}
    (text,) = server.texts(showing(prompt, "ip_adapter"), "9")
    assert all(word in text for word in ("image_proj", "ip_adapter", "is_sdxl"))


def test_other_takes_an_encoder_by_its_clip_type(server):
    free = router(
        model_type="Other",
        model_type__clip_type="stable_diffusion",
        model_type__clip_1="clip_l.safetensors",
        model_type__clip_2="None",
        model_type__clip_3="None",
        model_type__clip_4="None",
    )
    assert pixels(server.image(drawing(free))) == pixels(server.image(drawing(STOCK)))


def test_the_slots_are_those_of_the_model_type(server):
    info = server.get("/object_info/LunaModelRouter")["LunaModelRouter"]
    kind, options = info["input"]["required"]["model_type"]
    assert kind == "COMFY_DYNAMICCOMBO_V3"
    slots = {option["key"]: list(option["inputs"]["required"]) for option in options["options"]}
    assert slots["Auto"] == []
    assert slots["SD3"] == ["clip_l", "clip_g", "t5xxl"]
    assert slots["Flux+Vision"] == ["clip_l", "t5xxl", "clip_vision"]
    assert slots["Other"] == ["clip_type", "clip_1", "clip_2", "clip_3", "clip_4"]
    assert list(info["input"]["optional"]) == ["dynamic_precision"]
    assert tuple(info["output_name"]) == OUTPUTS


def test_the_daemon_is_never_started_by_force_local(server):
    assert not list((server.base / "run").glob("daemon-*"))


@pytest.fixture(scope="module")
def gguf_unet(server) -> str:
    """Return the name of SD1.5's U-Net as a GGUF file, with sd15_dequantised.safetensors beside it."""
    from safetensors.torch import load_file

    models = server.base / "models"
    unet = load_file(models / "diffusion_models/sd15_unet.safetensors")
    weights = {name.removeprefix("model.diffusion_model."): w for name, w in unet.items()}
    entries = gguf_files.mixture(weights, ["Q8_0", "Q4_K", "Q5_0"])
    gguf_files.write_gguf(models / "diffusion_models/gguf/sd15_Q8_0.gguf", "sd1", entries)
    write(models, "diffusion_models/sd15_dequantised.safetensors", gguf_files.dequantised(entries))
    return "gguf/sd15_Q8_0.gguf"


@pytest.mark.parametrize("edit", [lambda prompt: prompt, with_lora], ids=["plain", "with a LoRA"])
def test_a_gguf_file_gives_the_image_of_the_dequantised_model(server, gguf_unet, edit):
    images = [
        pixels(
            server.image(
                edit(
                    drawing(
                        router(
                            model_source="diffusion_models",
                            model_name=name,
                            model_type="SD1.5",
                            model_type__clip_l="clip_l.safetensors",
                            vae_name="sdxl_vae.safetensors",
                        )
                    )
                )
            )
        )
        for name in (gguf_unet, "sd15_dequantised.safetensors")
    ]
    assert images[0] == images[1]


def test_gguf_files_are_offered_once(server, gguf_unet):
    (server.base / "models/text_encoders/t5.gguf").write_bytes(b"GGUF")
    info = str(server.get("/object_info/LunaModelRouter")["LunaModelRouter"]["input"])
    assert info.count(gguf_unet) == 1
    assert "'t5.gguf'" in info


def test_a_damaged_gguf_file_is_told_before_anything_loads(server):
    (server.base / "models/text_encoders/t5.gguf").write_bytes(b"GGUF")
    chosen = router(model_type="SD1.5", model_type__clip_l="t5.gguf")
    with pytest.raises(RunFailedError, match=r"'t5\.gguf' is damaged or not a GGUF file"):
        server.image(drawing(chosen))
