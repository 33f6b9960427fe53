"""The nodes for conversion on a real ComfyUI, over its API alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .comfy_server import BOOT_TIMEOUT_S, RunFailedError

pytestmark = pytest.mark.timeout(BOOT_TIMEOUT_S + 120)
SD15 = "v1-5-pruned-emaonly-fp16.safetensors"


def outputs(server: Any, node: str, count: int, **inputs: Any) -> list[str]:
    """Run one node, and return its outputs as PreviewAny shows them."""
    prompt: dict[str, Any] = {"1": {"class_type": node, "inputs": inputs}}
    for place in range(count):
        prompt[f"o{place}"] = {"class_type": "PreviewAny", "inputs": {"source": ["1", place]}}
    shown = server.run(prompt)
    return [shown[f"o{place}"]["text"][0] for place in range(count)]


def convert(server: Any, **inputs: Any) -> list[str]:
    plain = {"source_checkpoint": SD15, "output_directory": "", "quantization": "Q8_0"}
    return outputs(server, "LunaGGUFConverter", 3, **{**plain, **inputs})


def batch(server: Any, **inputs: Any) -> list[str]:
    plain = {"source_directory": "", "output_directory": "", "quantization": "Q4_0"}
    wanted = {**plain, "max_files": 10, **inputs}
    return outputs(server, "LunaGGUFBatchConverter", 3, **wanted)


def manage(server: Any, action: str, **inputs: Any) -> str:
    return outputs(server, "LunaOptimizedWeightsManager", 1, action=action, **inputs)[0]


@pytest.fixture(autouse=True)
def clean(server: Any) -> Any:
    yield
    empty(server.base / "models/unet")


def empty(folder: Path) -> None:
    """Remove files only: ComfyUI lists no models any more when a folder that it has seen is gone."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()


def test_a_checkpoint_becomes_a_gguf_file(server):
    from luna_collection.utils.weights.gguf_header import read_gguf_header

    path, count, size = convert(server)

    assert Path(path) == server.base / f"models/unet/gguf/{Path(SD15).stem}_Q8_0.gguf"
    header = read_gguf_header(Path(path))
    assert header.architecture == "sd1"
    assert len(header.tensors) == int(count)
    assert float(size) == pytest.approx(Path(path).stat().st_size / 1e6)
    stamp = Path(path).stat().st_mtime_ns
    assert convert(server)[0] == path
    assert Path(path).stat().st_mtime_ns == stamp


def test_a_name_and_a_folder_of_ones_own(server):
    source = str(server.base / "models/checkpoints" / SD15)
    inputs = {"source_checkpoint": source, "output_filename": "kleine größe"}

    path, *_ = convert(server, output_directory="mine/below", **inputs)

    assert Path(path).parts[-3:] == ("mine", "below", "kleine größe.gguf")
    assert Path(path).is_file()
    empty(Path(path).parent.parent)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"source_checkpoint": "gone.safetensors"}, "There is no model"),
        ({"source_checkpoint": "/etc/hostname"}, "There is no model"),
        ({"source_checkpoint": "../vae/sdxl_vae.safetensors"}, "There is no model"),
        ({"output_directory": "../../elsewhere"}, "outside"),
        ({"output_filename": "../a.gguf"}, "is a path"),
    ],
)
def test_what_lies_elsewhere_is_refused(server, inputs, words):
    with pytest.raises(RunFailedError, match=words):
        convert(server, **inputs)
    assert not (server.base / "models/unet").exists() or not list(
        (server.base / "models/unet").rglob("*.gguf")
    )


def test_the_models_of_a_folder(server):
    there = len(list((server.base / "models/checkpoints").glob("*.safetensors")))
    report, converted, failed = batch(server)

    assert (int(converted), int(failed)) == (there, 0)
    assert f"OK {SD15}: " in report
    assert f"SKIP {SD15}: " in batch(server)[0]
    assert batch(server, skip_existing=False)[1] == str(there)


def test_converted_files_are_listed_and_removed_only_when_that_is_said(server):
    path = Path(convert(server)[0])
    (path.parent / "mine.gguf").write_bytes(b"of somebody else")

    assert "gguf_Q8_0: 1" in manage(server, "stats")
    assert path.name in manage(server, "list", weights_directory="")
    assert "Would remove 0 files" in manage(server, "clear_old", days_old=1)
    assert "Would remove 1 file" in manage(server, "purge_all")
    with pytest.raises(RunFailedError, match="delete"):
        manage(server, "purge_all", dry_run=False)
    with pytest.raises(RunFailedError, match="There is no folder"):
        manage(server, "list", weights_directory="gone")
    assert path.is_file()
    assert "Removed 1 file" in manage(server, "purge_all", dry_run=False, confirm="delete")
    assert [p.name for p in path.parent.iterdir()] == ["mine.gguf"]
