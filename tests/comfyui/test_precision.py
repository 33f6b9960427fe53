"""Models in other precisions on a real ComfyUI, over HTTP: converted once, loaded from there ever after."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from luna_collection.utils.conversion.targets import TARGETS
from luna_collection.utils.quantization.microscaling import FORMATS

from .comfy_server import BOOT_TIMEOUT_S, RunFailedError
from .workflows import OUTPUTS, SD15, STOCK, drawing, pixels, router, showing

pytestmark = pytest.mark.timeout(BOOT_TIMEOUT_S + 300)
STEM = SD15.removesuffix(".safetensors")
# Where each precision of the checkpoint lies, below models/unet.
PLACES = {
    "bf16": f"bf16/{STEM}_unet.safetensors",
    "fp8_e4m3fn": f"fp8/{STEM}_unet_fp8_e4m3fn.safetensors",
    "fp8_e4m3fn_scaled": f"fp8/{STEM}_unet_fp8_e4m3fn_scaled.safetensors",
    "fp8_e5m2": f"fp8/{STEM}_unet_fp8_e5m2.safetensors",
    "mxfp8": f"fp8/{STEM}_unet_mxfp8.safetensors",
    "nvfp4": f"fp4/{STEM}_unet_nvfp4.safetensors",
    **{
        f"gguf_{recipe}": f"gguf/{STEM}_{recipe}.gguf"
        for recipe in ("F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_0")
    },
}
KEPT = {"gguf_F16"}  # these lose nothing of a model in fp16


def precise(precision: str, **inputs: object) -> dict[str, Any]:
    return router(dynamic_precision=precision, **inputs)


def told(server: Any, loader: dict[str, Any], text: str = "a lighthouse") -> tuple[bytes, str]:
    """Draw; return the picture and the loader's status."""
    prompt = showing(drawing(loader, text), "status")
    outputs = server.run(prompt)
    (image,) = outputs["7"]["images"]
    picture = pixels((server.base / "output" / image["filename"]).read_bytes())
    return picture, outputs["9"]["text"][0]


def stock_unet(name: str, text: str = "a lighthouse") -> dict[str, Any]:
    """Draw with ComfyUI's own loaders: the model from a file, the rest from the checkpoint."""
    prompt = drawing(STOCK, text)
    loader = {"unet_name": name, "weight_dtype": "default"}
    prompt["11"] = {"class_type": "UNETLoader", "inputs": loader}
    prompt["5"]["inputs"]["model"] = ["11", 0]
    return prompt


def unet_folder(server: Any) -> Path:
    folder: Path = server.base / "models" / "unet"
    return folder


def offered(server: Any) -> list[str]:
    info = server.get("/object_info/LunaModelRouter")["LunaModelRouter"]
    options: list[str] = info["input"]["optional"]["dynamic_precision"][1]["options"]
    return options


def test_what_can_be_loaded_is_offered(server):
    options = offered(server)
    assert options[0] == "None"
    # The first of these need a ComfyUI that knows them, the others a package with ggml.
    maybe = {"fp8_e4m3fn_scaled", *FORMATS, "gguf_IQ4_XS", "gguf_Q3_K_M"}
    assert set(options) - maybe == {"None", *TARGETS} - maybe


@pytest.mark.parametrize("precision", PLACES)
def test_a_precision_draws_what_its_file_draws_when_it_is_loaded_directly(server, precision):
    if precision not in offered(server):
        pytest.skip(f"this ComfyUI does not know the format of {precision}")
    place = unet_folder(server) / PLACES[precision]
    for left in place.parent.glob(f"{place.name}*"):  # other tests convert the same model
        left.unlink()
    picture, status = told(server, precise(precision))
    assert place.is_file()
    label = TARGETS[precision].label
    assert f"Precision: {label}, '{PLACES[precision]}' was made now of '{SD15}'" in status
    assert "CLIP: from checkpoint | VAE: from checkpoint" in status
    if place.suffix == ".gguf":
        direct = {"model_source": "unet", "model_name": PLACES[precision], "model_type": "SD1.5"}
        files = {"model_type__clip_l": "clip_l.safetensors", "vae_name": "sdxl_vae.safetensors"}
        again = drawing(router(**direct, **files))
    else:
        again = stock_unet(PLACES[precision])
    assert picture == pixels(server.image(again))
    assert (picture == pixels(server.image(drawing(STOCK)))) is (precision in KEPT)


def test_the_second_time_nothing_is_converted(server):
    told(server, precise("bf16"))
    place = unet_folder(server) / PLACES["bf16"]
    before = place.stat().st_mtime_ns
    explicit = {"model_type": "SD1.5", "model_type__clip_l": "from checkpoint"}
    _, status = told(server, precise("bf16", **explicit))
    assert "was made earlier of" in status
    assert place.stat().st_mtime_ns == before


def test_the_dynamic_loader_gives_the_same_and_only_what_is_linked(server):
    inputs = {"ckpt_name": SD15, "precision": "bf16", "daemon_mode": "force_local"}
    loader = {"class_type": "LunaDynamicModelLoader", "inputs": inputs}
    picture = pixels(server.image(drawing(loader)))
    assert picture == told(server, precise("bf16"))[0]
    alone = {"1": loader}
    for node, output in (("8", 3), ("9", 4)):
        alone[node] = {"class_type": "PreviewAny", "inputs": {"source": ["1", output]}}
    outputs = server.run(alone)
    assert Path(outputs["8"]["text"][0]) == (unet_folder(server) / PLACES["bf16"]).resolve()
    assert outputs["9"]["text"][0].splitlines()[0] == "[SD1.5] nothing shared"


def test_two_precisions_of_a_model_in_one_graph(server):
    prompt: dict[str, Any] = {}
    for number, precision in enumerate(("fp8_e5m2", "gguf_Q4_0")):
        inputs = {"ckpt_name": SD15, "precision": precision, "daemon_mode": "force_local"}
        prompt[f"l{number}"] = {"class_type": "LunaDynamicModelLoader", "inputs": inputs}
        shown = {"class_type": "PreviewAny", "inputs": {"source": [f"l{number}", 3]}}
        prompt[f"p{number}"] = shown
    outputs = server.run(prompt)
    paths = [Path(outputs[f"p{number}"]["text"][0]) for number in range(2)]
    folder = unet_folder(server).resolve()
    assert paths == [folder / PLACES["fp8_e5m2"], folder / PLACES["gguf_Q4_0"]]


def test_the_dynamic_loader_writes_where_it_is_told_and_nowhere_else(server):
    def loader(folder: str) -> dict[str, Any]:
        inputs = {"ckpt_name": SD15, "precision": "bf16", "local_weights_dir": folder}
        return {"class_type": "LunaDynamicModelLoader", "inputs": inputs}

    def path(folder: str) -> str:
        shown = {"class_type": "PreviewAny", "inputs": {"source": ["1", 3]}}
        (text,) = server.texts({"1": loader(folder), "9": shown}, "9")
        return str(text)

    assert Path(path("für mich")).is_relative_to(unet_folder(server).resolve() / "für mich")
    with pytest.raises(
        RunFailedError, match="lies outside of ComfyUI's folders for diffusion models"
    ):
        path("../../outside")


def test_a_source_that_has_that_precision_or_is_quantised_is_used_and_the_status_says_so(server):
    plain = pixels(server.image(drawing(STOCK)))
    picture, status = told(server, precise("fp16"))
    assert picture == plain
    assert f"Precision: '{SD15}' is in fp16 already." in status
    assert "It is used as it is." in status
    small = PLACES["fp8_e4m3fn_scaled"]
    told(server, precise("fp8_e4m3fn_scaled"))
    again = precise(
        "bf16",
        model_source="diffusion_models",
        model_name=small,
        vae_name="sdxl_vae.safetensors",
    )
    picture, status = told(server, again)
    assert picture == pixels(server.image(stock_unet(small)))
    assert "is quantised already" in status


def test_a_source_that_is_replaced_is_converted_again(server):
    from safetensors.torch import load_file, save_file

    checkpoints = server.base / "models/checkpoints"
    source = checkpoints / "replaced.safetensors"
    weights = load_file(checkpoints / SD15)
    save_file(weights, source)
    loader = precise("bf16", model_name=source.name)
    first, _ = told(server, loader)
    changed = {
        name: value * 1.5 if name.endswith("out.2.weight") else value
        for name, value in weights.items()
    }
    save_file(changed, source.with_name("new"))
    os.replace(source.with_name("new"), source)
    second, status = told(server, loader)
    assert second != first
    assert "was made now" in status


def test_cancel_ends_a_conversion(server):
    import filelock
    from luna_collection.utils.conversion.part_files import lock_of

    place = unet_folder(server) / PLACES["fp8_e5m2"].replace(STEM, "cancelled")
    os.link(
        server.base / "models/checkpoints" / SD15,
        server.base / "models/checkpoints/cancelled.safetensors",
    )
    place.parent.mkdir(parents=True, exist_ok=True)
    prompt = drawing(precise("fp8_e5m2", model_name="cancelled.safetensors"))
    with filelock.FileLock(lock_of(place)):
        prompt_id = server.queue(prompt)
        wait_for(lambda: server.get("/queue")["queue_running"])
        time.sleep(1)
        server.post("/interrupt")
        wait_for(lambda: server.get(f"/history/{prompt_id}"))
    status = server.get(f"/history/{prompt_id}")[prompt_id]["status"]
    assert [name for name, _ in status["messages"]][-1] == "execution_interrupted"
    assert not place.exists()
    server.image(prompt)
    assert place.is_file()


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def test_a_file_that_cannot_be_converted_is_an_error_that_says_why(server):
    models = server.base / "models"
    os.link(models / "vae/sdxl_vae.safetensors", models / "checkpoints/not a model.safetensors")
    wrong = {"ckpt_name": "not a model.safetensors", "precision": "bf16"}
    loader = {"class_type": "LunaDynamicModelLoader", "inputs": wrong}
    with pytest.raises(RunFailedError, match="not a diffusion model"):
        server.run({"1": loader, "9": {"class_type": "PreviewAny", "inputs": {"source": ["1", 3]}}})


def test_two_servers_convert_once_and_the_daemon_does_not_wait_for_it(studio):
    import filelock
    from luna_collection.utils.conversion.part_files import lock_of

    one, other = studio.servers
    if studio.daemon is not None:
        one.post("/luna/daemon/stop")
        wait_for(lambda: studio.daemon is None)
    place = unet_folder(one) / PLACES["bf16"]
    place.parent.mkdir(parents=True, exist_ok=True)
    prompt = showing(drawing(precise("bf16", daemon_mode="auto")), "status")
    with filelock.FileLock(lock_of(place)):
        jobs = [(server, server.queue(prompt)) for server in (one, other)]
        wait_for(lambda: studio.daemon is not None)
        assert not place.exists()
    for server, job in jobs:
        wait_for(lambda server=server, job=job: server.get(f"/history/{job}"), 200)
    statuses = [
        server.get(f"/history/{job}")[job]["outputs"]["9"]["text"][0] for server, job in jobs
    ]
    assert sorted("was made now" in status for status in statuses) == [False, True]
    assert all(status.startswith("[SD1.5] daemon") for status in statuses)
    assert len(list(place.parent.glob("*.safetensors"))) == 1


def test_the_output_names_have_not_changed(server):
    info = server.get("/object_info/LunaModelRouter")["LunaModelRouter"]
    assert tuple(info["output_name"]) == OUTPUTS
