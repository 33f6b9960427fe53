from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from luna_collection.luna_daemon.errors import BadRequestError, NotFoundError
from luna_collection.luna_daemon.model_locator import ModelLocator
from luna_collection.luna_daemon.protocol.worker_messages import ModelSpec

needs_links = pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")


def write_model(path: Path, shape: tuple[int, ...] = (2, 3), dtype: str = "F16") -> Path:
    """Write a safetensors file with one tensor of zeros, by hand."""
    nbytes = {"F32": 4, "F16": 2, "F8_E4M3": 1}[dtype]
    for size in shape:
        nbytes *= size
    table = {"weight": {"dtype": dtype, "shape": shape, "data_offsets": [0, nbytes]}}
    header = json.dumps(table).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(nbytes))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a VAE folder, a text encoder folder with its tokenizer, and a single file."""
    root = tmp_path / "models"
    write_model(root / "sdxl/vae/model.safetensors")
    (root / "sdxl/vae/config.json").write_text("{}")
    write_model(root / "sdxl/text_encoder/model.safetensors")
    (root / "sdxl/text_encoder/config.json").write_text("{}")
    for name in ("tokenizer", "tokenizer_2"):
        (root / "sdxl" / name).mkdir()
        (root / "sdxl" / name / "vocab.json").write_text("{}")
    write_model(root / "sdxl/text_encoder_2/model.safetensors")
    write_model(root / "vae.safetensors")
    return root


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A good model that lies beside the root."""
    folder = tmp_path / "secret-folder"
    write_model(folder / "secret-name.safetensors")
    (folder / "config.json").write_text("{}")
    return folder


def find(
    *roots: Path, name: str, role: str = "vae", engine: str = "hf", precision: str = "fp16"
) -> ModelSpec:
    return ModelLocator(roots).spec(role, name, engine=engine, precision=precision)


def refusal(root: Path, name: str) -> str:
    with pytest.raises(NotFoundError) as refused:
        find(root, name=name)
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("sdxl/vae", "sdxl/vae"),
        ("./sdxl/vae/", "sdxl/vae"),
        ("sdxl/../sdxl//vae", "sdxl/vae"),
        ("vae.safetensors", "vae.safetensors"),
        ("sdxl/vae/model.safetensors", "sdxl/vae/model.safetensors"),
    ],
)
def test_a_name_is_found_below_the_root(root: Path, name: str, path: str) -> None:
    assert find(root, name=name).path == str(Path(os.path.realpath(root / path)))


def test_a_whole_path_below_the_root_is_a_name_too(root: Path) -> None:
    assert find(root, name=str(root / "sdxl/vae")) == find(root, name="sdxl/vae")


def test_a_spec_says_what_was_asked_for(root: Path) -> None:
    spec = find(root, name="sdxl/vae", role="vae", precision="bf16")
    assert (spec.role, spec.precision) == ("vae", "bf16")


def test_the_first_root_that_has_the_name_is_used(root: Path, tmp_path: Path) -> None:
    second = write_model(tmp_path / "more/sdxl/vae/model.safetensors").parents[2]
    assert find(second, root, name="sdxl/vae").path.startswith(str(second))


def test_later_roots_are_looked_through_too(root: Path, tmp_path: Path) -> None:
    second = write_model(tmp_path / "more/flux/vae/model.safetensors").parents[2]
    assert find(root, second, name="flux/vae").path.startswith(str(second))


def test_a_root_that_does_not_exist_does_no_harm(root: Path, tmp_path: Path) -> None:
    assert find(tmp_path / "missing", root, name="sdxl/vae").path.startswith(str(root))


@needs_links
def test_a_root_may_be_a_link(root: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    assert find(link, name="sdxl/vae") == find(root, name="sdxl/vae")


def test_names_may_have_any_letters(root: Path) -> None:
    write_model(root / "モデル ü's #1/vae/model.safetensors")
    assert find(root, name="モデル ü's #1/vae").path.endswith("/モデル ü's #1/vae")


VAE_FILE = "sdxl/vae/model.safetensors"


@pytest.mark.parametrize(
    "spelling",
    [
        lambda root: "./sdxl/vae",
        lambda root: "sdxl/vae/",
        lambda root: "sdxl/text_encoder/../vae",
        lambda root: str(root / "sdxl" / "vae"),
    ],
    ids=["dot", "slash at the end", "there and back", "whole path"],
)
def test_all_spellings_of_a_path_have_one_key(root: Path, spelling: Callable[[Path], str]) -> None:
    assert find(root, name=spelling(root)).key == find(root, name="sdxl/vae").key


@needs_links
def test_a_link_has_the_key_of_what_it_leads_to(root: Path) -> None:
    (root / "linked").symlink_to(root / "sdxl/vae")
    assert find(root, name="linked").key == find(root, name="sdxl/vae").key


def test_asking_twice_gives_the_same_key(root: Path) -> None:
    assert find(root, name="sdxl/vae").key == find(root, name="sdxl/vae").key


def test_copies_of_a_model_have_different_keys(root: Path) -> None:
    write_model(root / "copy/vae/model.safetensors")
    assert find(root, name="copy/vae").key != find(root, name="sdxl/vae").key


def later(path: Path) -> None:
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))


def put_same_header(path: Path) -> None:
    """Other weights of the same shapes, as a new file under the old name."""
    part = path.with_name("part")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    part.write_bytes(data)
    stat = path.stat()
    os.utime(part, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    part.replace(path)


CHANGES = {
    "other shapes": lambda root: write_model(root / VAE_FILE, shape=(3, 2)),
    "another element type": lambda root: write_model(
        root / VAE_FILE, shape=(6, 2), dtype="F8_E4M3"
    ),
    "other weights of the same size": lambda root: put_same_header(root / VAE_FILE),
    "the file was touched": lambda root: later(root / VAE_FILE),
    "its settings": lambda root: (root / "sdxl/vae/config.json").write_text('{"a": 1}'),
    "a further shard": lambda root: write_model(root / "sdxl/vae/model-2.safetensors"),
    "a file less": lambda root: (root / "sdxl/vae/config.json").unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_of_the_files_changes_the_key(
    root: Path, change: Callable[[Path], object]
) -> None:
    before = find(root, name="sdxl/vae").key
    change(root)
    assert find(root, name="sdxl/vae").key != before


def test_a_header_that_changed_behind_an_equal_file_state_changes_the_key(root: Path) -> None:
    file = root / VAE_FILE
    before, state = find(root, name="sdxl/vae").key, file.stat()
    write_model(file, shape=(3, 2))
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert file.stat().st_size == state.st_size
    assert find(root, name="sdxl/vae").key != before


@pytest.mark.parametrize(
    "other",
    [{"precision": "fp32"}, {"engine": "comfy"}, {"role": "clip_l"}],
    ids=["precision", "engine", "role"],
)
def test_what_is_made_of_the_files_is_part_of_the_key(root: Path, other: dict[str, str]) -> None:
    assert find(root, name="sdxl/vae", **other).key != find(root, name="sdxl/vae").key


def test_changes_elsewhere_do_not_change_the_key(root: Path) -> None:
    before = find(root, name="sdxl/vae").key
    write_model(root / "sdxl/text_encoder/model.safetensors", shape=(9,))
    (root / "sdxl/model_index.json").write_text("{}")
    later(root / "sdxl/vae")
    assert find(root, name="sdxl/vae").key == before


@pytest.mark.parametrize(
    ("encoder", "tokenizer"),
    [("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")],
)
def test_the_tokenizer_beside_a_text_encoder_is_part_of_its_key(
    root: Path, encoder: str, tokenizer: str
) -> None:
    before = find(root, name=f"sdxl/{encoder}", role="clip_l").key
    (root / "sdxl" / tokenizer / "vocab.json").write_text('{"a": 1}')
    assert find(root, name=f"sdxl/{encoder}", role="clip_l").key != before


def test_the_tokenizer_of_the_other_text_encoder_is_not_part_of_the_key(root: Path) -> None:
    before = find(root, name="sdxl/text_encoder", role="clip_l").key
    (root / "sdxl/tokenizer_2/vocab.json").write_text('{"a": 1}')
    assert find(root, name="sdxl/text_encoder", role="clip_l").key == before


def test_a_text_encoder_without_a_tokenizer_is_found(root: Path) -> None:
    write_model(root / "alone/text_encoder/model.safetensors")
    assert find(root, name="alone/text_encoder", role="clip_l").nbytes == 12


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other file names are text")
def test_a_file_whose_name_is_no_text_does_no_harm(root: Path) -> None:
    Path(os.fsdecode(bytes(root / "sdxl/vae") + b"/\xff.txt")).write_text("x")
    assert len(find(root, name="sdxl/vae").key) == 64


ESCAPES = {
    "parent": "..",
    "beside": "../secret-folder",
    "beside, from within": "sdxl/../../secret-folder",
    "beside, file": "../secret-folder/secret-name.safetensors",
    "whole path": "{outside}",
    "whole path of a file": "{outside}/secret-name.safetensors",
    "whole path, there and back": "{root}/../secret-folder",
    "whole path that only begins like the root": "{root}-of-others/vae",
    "a file of the system": "/etc/passwd",
    "the root of the file system": "/",
    "backslashes": "..\\secret-folder",
    "backslashes within": "sdxl\\..\\..\\secret-folder",
    "drive": "C:\\secret-folder",
    "network": "\\\\server\\secret-folder",
    "URL": "file://{outside}",
    "percent signs": "%2e%2e/secret-folder",
    "dots that only look like dots": "\u2024\u2024/secret-folder",
    "wide dots": "\uff0e\uff0e/secret-folder",
    "a slash that only looks like one": "..\u2215secret-folder",
    "NUL": "sdxl/vae\0",
    "NUL, then a good name": "\0sdxl/vae",
    "half a surrogate pair": "sdxl/\ud800",
    "home": "~",
    "home of root": "~root",
    "variable": "$HOME",
    "line end": "sdxl/vae\n",
    "nothing": "",
    "the root itself": ".",
    "the root, there and back": "sdxl/..",
    "a name longer than any file's": "x" * 300,
    "a path longer than any": "x/" * 3000,
    "missing": "sdxl/unet",
    "below a file": "vae.safetensors/model.safetensors",
}


@pytest.mark.parametrize("name", ESCAPES.values(), ids=ESCAPES.keys())
def test_it_does_not_exist_for_a_client(root: Path, outside: Path, name: str) -> None:
    write_model(root.with_name("models-of-others") / "vae/model.safetensors")
    name = name.format(root=root, outside=outside)
    said = refusal(root, name)
    assert said.startswith("There is no model '")
    assert "secret-name" not in said.replace(name, "")


@needs_links
@pytest.mark.parametrize("target", ["secret-folder", "secret-folder/secret-name.safetensors"])
def test_a_link_out_of_the_root_does_not_exist_for_a_client(
    root: Path, outside: Path, target: str
) -> None:
    (root / "link").symlink_to(root.parent / target)
    assert "secret" not in refusal(root, "link")


@needs_links
def test_a_folder_with_a_link_out_of_the_root_is_refused_without_saying_where_to(
    root: Path, outside: Path
) -> None:
    (root / "sdxl/vae/linked.safetensors").symlink_to(outside / "secret-name.safetensors")
    said = refusal(root, "sdxl/vae")
    assert "'linked.safetensors' that is a link to a place outside" in said
    assert "secret" not in said


@needs_links
def test_a_tokenizer_that_is_a_link_out_of_the_root_is_refused(root: Path, outside: Path) -> None:
    write_model(root / "new/text_encoder/model.safetensors")
    (root / "new/tokenizer").symlink_to(outside)
    assert "secret" not in refusal(root, "new/text_encoder")


@needs_links
def test_a_link_between_two_roots_is_good(root: Path, outside: Path) -> None:
    (root / "link").symlink_to(outside)
    assert find(root, outside.parent, name="link").path == os.path.realpath(outside)


@needs_links
@pytest.mark.parametrize("name", ["round", "dangling"])
def test_a_link_that_leads_nowhere_is_not_there(root: Path, name: str) -> None:
    (root / "round").symlink_to(root / "round")
    (root / "dangling").symlink_to(root / "missing")
    assert f"There is no model '{name}'" in refusal(root, name)


@needs_links
def test_a_file_that_leads_nowhere_is_not_part_of_a_model(root: Path) -> None:
    before = find(root, name="sdxl/vae")
    (root / "sdxl/vae/dangling.json").symlink_to(root / "missing")
    assert find(root, name="sdxl/vae") == before


def test_without_roots_nothing_exists() -> None:
    with pytest.raises(NotFoundError) as refused:
        find(name="sdxl/vae")
    assert refused.value.message == "The daemon knows no model folder."
    assert "--model-roots" in refused.value.hint


def test_a_long_name_is_not_repeated_whole(root: Path) -> None:
    assert len(refusal(root, "x" * 4000)) < 300


@needs_links
def test_weights_may_be_links_to_files_without_an_ending(root: Path) -> None:
    # As in the cache of the Hugging Face hub: snapshots/…/vae/model.safetensors → blobs/<digest>
    blob = write_model(root / "hub/blobs/0a1b2c")
    (root / "hub/snapshots/1/vae").mkdir(parents=True)
    (root / "hub/snapshots/1/vae/model.safetensors").symlink_to(blob)
    assert find(root, name="hub/snapshots/1/vae").nbytes == 12


@needs_links
def test_damaged_weights_are_named_as_the_folder_names_them(root: Path) -> None:
    (root / "blob").write_bytes(b"damaged")
    (root / "sdxl/vae/model.safetensors").unlink()
    (root / "sdxl/vae/model.safetensors").symlink_to(root / "blob")
    with pytest.raises(BadRequestError, match=r"'model.safetensors' is damaged"):
        find(root, name="sdxl/vae")


@pytest.mark.parametrize("name", ["model.pt", "model.ckpt", "model.bin", "model.pth"])
def test_formats_that_can_run_code_are_refused(root: Path, name: str) -> None:
    (root / "old").mkdir()
    (root / "old" / name).write_bytes(b"PK\x03\x04")
    for asked in ("old", f"old/{name}"):
        with pytest.raises(BadRequestError) as refused:
            find(root, name=asked)
        assert "has no .safetensors file" in refused.value.message
        assert "can run code" in refused.value.hint


def test_an_empty_folder_is_refused(root: Path) -> None:
    (root / "empty").mkdir()
    with pytest.raises(BadRequestError, match=r"'empty', has no .safetensors file"):
        find(root, name="empty")


def test_weights_in_a_folder_further_down_are_not_the_models(root: Path) -> None:
    with pytest.raises(BadRequestError, match=r"'sdxl', has no .safetensors file"):
        find(root, name="sdxl")


@pytest.mark.parametrize(
    "content",
    [b"", b"\x01", b"\xff" * 100, b"\x80\x02}q\x00.", (10**6).to_bytes(8, "little") + b"{}"],
    ids=["empty", "one byte", "no length", "a pickle by that name", "cut short"],
)
def test_damaged_weights_are_refused_by_name(root: Path, content: bytes) -> None:
    (root / VAE_FILE).write_bytes(content)
    with pytest.raises(BadRequestError) as refused:
        find(root, name="sdxl/vae")
    assert refused.value.message.startswith(
        "The model for 'vae' cannot be used. 'model.safetensors' is damaged"
    )
    assert str(root) not in str(refused.value)


def test_one_damaged_shard_spoils_the_model(root: Path) -> None:
    (root / "sdxl/vae/model-2.safetensors").write_bytes(b"damaged")
    with pytest.raises(BadRequestError, match=r"'model-2.safetensors' is damaged"):
        find(root, name="sdxl/vae")


@pytest.mark.parametrize(
    ("dtype", "precision", "nbytes"),
    [
        ("F16", "file", 200),
        ("F32", "file", 400),
        ("F8_E4M3", "file", 100),
        ("F16", "fp32", 400),
        ("F32", "fp16", 200),
        ("F32", "bf16", 200),
        ("F8_E4M3", "fp16", 200),
    ],
)
def test_the_size_in_memory_follows_the_precision(
    root: Path, dtype: str, precision: str, nbytes: int
) -> None:
    write_model(root / "sized/vae/model.safetensors", shape=(10, 10), dtype=dtype)
    assert find(root, name="sized/vae", precision=precision).nbytes == nbytes


def test_the_size_of_a_model_is_that_of_all_its_shards(root: Path) -> None:
    write_model(root / "sdxl/vae/model-2.safetensors", shape=(5,))
    assert find(root, name="sdxl/vae").nbytes == 12 + 10


def test_a_tokenizers_files_take_no_memory(root: Path) -> None:
    assert find(root, name="sdxl/text_encoder", role="clip_l").nbytes == 12


def change_weights(root: Path) -> None:
    write_model(root / "sdxl/vae/model.safetensors", shape=(3, 3))


def add_file(root: Path) -> None:
    (root / "sdxl/vae/added.json").write_text("{}")


def remove_folder(root: Path) -> None:
    (root / "sdxl/vae").rename(root / "moved")


@pytest.mark.parametrize("change", [change_weights, add_file, remove_folder])
def test_a_model_whose_files_change_is_no_longer_the_one_of_its_key(
    root: Path, change: Callable[[Path], None]
) -> None:
    locator = ModelLocator([root])
    spec = locator.spec("vae", "sdxl/vae", engine="hf", precision="fp16")
    assert locator.is_unchanged(spec, engine="hf")
    change(root)
    assert not locator.is_unchanged(spec, engine="hf")
