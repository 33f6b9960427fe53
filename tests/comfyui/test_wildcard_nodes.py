"""The nodes for wildcards on a real ComfyUI, over its API alone."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from luna_collection.utils.wildcards import DIALECTS, Library, expand
from PIL import Image

from ..utils.wildcards.grammar_page import rows, write_files
from .comfy_server import BOOT_TIMEOUT_S, RunFailedError

pytestmark = pytest.mark.timeout(BOOT_TIMEOUT_S + 120)
FILES = {
    "color.txt": "red\ngreen\nblue\n",
    "deep/animal.yaml": "# pets\ncats: [tabby, siamese]\nbig:\n  dogs:\n    - beagle # small\n    - mastiff\nname: Rex\n",
    "_hidden.yaml": "a: [b]\n",
}
FOLDER = "rolls"


@pytest.fixture(scope="module")
def stocked(server: Any) -> Any:
    """The server with files of wildcards."""
    for name, text in FILES.items():
        put(server, name, text)
    return server


def put(server: Any, name: str, text: str) -> None:
    path = server.base / "models/wildcards" / FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    os.utime(
        path, (1_700_000_000 + put.writes,) * 2
    )  # two writes within a moment differ all the same
    put.writes += 1


put.writes = 0


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    inputs = {"yaml_directory": FOLDER, **inputs}
    return {"class_type": kind, "inputs": inputs}


def shown(place: int) -> dict[str, Any]:
    return {"class_type": "PreviewAny", "inputs": {"source": ["1", place]}}


def run(server: Any, first: dict[str, Any], count: int) -> list[list[str]]:
    """Run one node, and return each of its outputs as PreviewAny shows it."""
    prompt = {"1": first} | {f"o{place}": shown(place) for place in range(count)}
    outputs = server.run(prompt)
    return [outputs[f"o{place}"]["text"] for place in range(count)]


def saving(kind: str, **inputs: Any) -> dict[str, Any]:
    """Return a prompt that saves a picture, which comes after a node's text."""
    return {
        "1": node(kind, **inputs),
        "6": {"class_type": "LunaExpression", "inputs": {"expression": "16 + 0 * len(a)", "a": ["1", 0]}},
        "2": {"class_type": "EmptyImage", "inputs": {"width": ["6", 0], "height": 16, "batch_size": 1, "color": 0}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "wild"}},
        "4": shown(0),
    }  # fmt: skip


def saved_prompt(server: Any, outputs: dict[str, Any]) -> dict[str, Any]:
    (image,) = outputs["3"]["images"]
    with Image.open(server.base / "output" / image["filename"]) as picture:
        return json.loads(picture.info["prompt"])


def test_the_same_seed_gives_the_same_and_picks_say_how(stocked):
    first = node(
        "LunaYAMLWildcard", prompt_template="{a|b|c|d} __color__ {deep/animal:cats}", seed=0
    )
    (text,), (picks,) = run(stocked, first, 2)
    data = json.loads(picks)
    assert data["text"] == text
    assert [data["seed"], data["position"], data["warnings"]] == [0, 0, []]
    assert [pick["kind"] for pick in data["picks"]] == ["option", "wildcard", "path"]
    assert [pick["file"] for pick in data["picks"]] == ["", "color.txt", "deep/animal.yaml"]
    again = {
        **first,
        "inputs": {**first["inputs"], "position": 0},
    }  # other inputs: nothing is cached
    assert run(stocked, again, 1) == [[text]]
    texts = set()
    for seed in range(6):
        first["inputs"]["seed"] = seed
        texts.add(run(stocked, first, 1)[0][0])
    assert len(texts) > 1


def test_unknown_names_stay_and_are_said(stocked):
    first = node("LunaYAMLWildcard", prompt_template="a __colour__ hat", seed=1)
    prompt = {"1": first, "2": shown(0), "3": shown(1)}
    outputs = stocked.run(prompt)
    assert outputs["2"]["text"] == ["a __colour__ hat"]
    (warning,) = json.loads(outputs["3"]["text"][0])["warnings"]
    assert "nothing is found for 'colour'" in warning
    assert warning in outputs["1"]["text"][0]


def test_dialects_and_folders_are_inputs(stocked):
    first = node("LunaYAMLWildcard", prompt_template="{1-3}", seed=1, dialect="impact")
    assert run(stocked, first, 1) == [["1-3"]]
    first = node("LunaYAMLWildcard", prompt_template="x", seed=1, txt_wildcard_directory="../..")
    with pytest.raises(RunFailedError, match="no folder for wildcards"):
        run(stocked, first, 1)


@pytest.mark.parametrize("linked", [False, True])
def test_a_changed_file_counts_in_the_next_run(stocked, linked):
    text = "__fresh__"
    first = node("LunaYAMLWildcard", prompt_template=["t", 0] if linked else text, seed=1)
    prompt = {"1": first, "2": shown(0)}
    if linked:
        prompt["t"] = {"class_type": "PrimitiveString", "inputs": {"value": text}}
    for word in ("one", "two", "six"):
        put(stocked, "fresh.txt", word)
        assert stocked.run(prompt)["2"]["text"] == [word]


def test_the_text_is_in_saved_images_also_when_the_node_did_not_run_again(stocked):
    prompt = saving("LunaYAMLWildcard", prompt_template="a {1-1000000} __color__", seed=4)
    for color in (0, 1):
        prompt["2"]["inputs"]["color"] = color
        outputs = stocked.run(prompt)
        saved = saved_prompt(stocked, outputs)
        assert saved["1"]["_meta"]["luna_wildcards"] == outputs["4"]["text"][0]
        assert saved["1"]["inputs"] == prompt["1"]["inputs"]


def test_the_text_of_linked_inputs_is_in_saved_images_too(stocked):
    prompt = saving("LunaYAMLWildcard", prompt_template="a {1-1000000} __color__", seed=["5", 0])
    for color, seed in ((0, 11), (1, 11), (2, 12), (3, 12), (4, 11)):
        prompt["2"]["inputs"]["color"] = color
        prompt["5"] = {"class_type": "PrimitiveInt", "inputs": {"value": seed}}
        outputs = stocked.run(prompt)
        saved = saved_prompt(stocked, outputs)
        assert saved["1"]["_meta"]["luna_wildcards"] == outputs["4"]["text"][0]


def test_an_item_of_a_batch_can_be_made_on_its_own(stocked):
    text = "{1-3} __@color__ {!x|y}"
    first = node("LunaYAMLWildcardBatch", prompt_template=text, seed=7, count=5, unique_only=True)
    prompts, picks = run(stocked, first, 2)
    assert len(set(prompts)) == 5
    for wanted, told in zip(prompts, picks, strict=True):
        data = json.loads(told)
        alone = node(
            "LunaYAMLWildcard", prompt_template=text, seed=data["seed"], position=data["position"]
        )
        assert run(stocked, alone, 1) == [[wanted]]


def test_a_batch_says_when_there_are_not_enough_texts(stocked):
    first = node(
        "LunaYAMLWildcardBatch", prompt_template="__color__", seed=0, count=9, unique_only=True
    )
    outputs = stocked.run({"1": first, "2": shown(0)})
    assert sorted(outputs["2"]["text"]) == ["blue", "green", "red"]
    assert "only 3 of 9 texts are different" in outputs["1"]["text"][0]
    first["inputs"]["unique_only"] = False
    assert len(run(stocked, first, 1)[0]) == 9


def test_paths_of_a_file_and_the_list_of_all(stocked):
    first = node(
        "LunaYAMLPathExplorer", yaml_file="deep/animal.yaml", max_depth=4, show_item_counts=True
    )
    ((text,),) = run(stocked, first, 1)
    assert text.splitlines()[2:] == [
        "big.dogs [2 items]", "big/ (2 items)", "cats [2 items]", "name = Rex",
    ]  # fmt: skip
    first["inputs"].update(max_depth=1, show_item_counts=False)
    assert run(stocked, first, 1)[0][0].splitlines()[2:] == ["big/", "cats", "name"]
    first["inputs"]["yaml_file"] = "None"
    assert "color  (color.txt)" in run(stocked, first, 1)[0][0]
    first["inputs"]["yaml_file"] = "../craft/x.yaml"
    with pytest.raises(RunFailedError, match="lies outside"):
        run(stocked, first, 1)


def test_values_are_injected_and_the_rest_of_the_file_stays(stocked):
    put(stocked, "stock.yaml", FILES["deep/animal.yaml"])
    path = stocked.base / "models/wildcards" / FOLDER / "stock.yaml"
    before = path.read_text("utf-8")
    first = node(
        "LunaYAMLInjector", csv_input="Beagle, great dane", target_yaml="stock.yaml",
        target_path="big.dogs", new_category="", format="list",
    )  # fmt: skip
    (preview,), (status,), (success,) = run(stocked, first, 3)
    assert path.read_text("utf-8") == before
    assert "preview_only is on" in status
    assert success == "True"
    first["inputs"]["preview_only"] = False
    run(stocked, first, 3)
    wanted = before.replace("    - mastiff\n", "    - mastiff\n    - great_dane\n")
    assert path.read_text("utf-8") == wanted == preview
    assert path.with_name("stock.yaml.bak").read_text("utf-8") == before
    assert run(stocked, first, 3)[2] == ["False"]
    first["inputs"]["target_path"] = "cats.tom"
    with pytest.raises(RunFailedError, match="'cats' is a list"):
        run(stocked, first, 3)


def test_the_builder_puts_a_prompt_together(stocked):
    first = node(
        "LunaWildcardBuilder", prompt_template="a {@x|y} hat,", seed=1, prefix="photo", suffix="sharp",
        lora_1="style.safetensors", lora_1_weight=0.5,
    )  # fmt: skip
    outputs = run(stocked, first, 3)
    assert outputs == [
        ["a y hat,"], ["<lora:style:0.50>"], ["photo, a y hat, <lora:style:0.50>, sharp"],
    ]  # fmt: skip


def ask(
    server: Any, body: bytes, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """Send a question as it is; return the status and the answer."""
    request = urllib.request.Request(f"{server.url}/luna/wildcards", body, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def question(**fields: Any) -> bytes:
    return json.dumps({"yaml_directory": FOLDER, **fields}).encode()


def test_the_route_gives_what_the_node_gives(stocked):
    text = "{1-100} {@a|b|c} __color__"
    status, told = ask(stocked, question(text=text, seed=3, count=4))
    assert status == 200
    for number, wanted in enumerate(told["texts"]):
        first = node("LunaYAMLWildcard", prompt_template=text, seed=3 + number)
        assert run(stocked, first, 1) == [[wanted]]
    assert told["picks"][0][-1]["file"] == "color.txt"
    assert (told["combinations"], told["warnings"]) == (900, [])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "no JSON"),
        (question(text="x", count=1000), "'count' has to be"),
        (question(text="{" * 60 + "}" * 60), "nested"),
        (question(text="x", yaml_directory="../../.."), "no folder for wildcards"),
    ],
)
def test_the_route_says_what_is_wrong(stocked, body, said):
    status, told = ask(stocked, body)
    assert status == 400
    assert said in told["error"]


def test_the_route_is_for_our_own_page(stocked):
    status, told = ask(stocked, question(text="x"), {"Sec-Fetch-Site": "same-site"})
    assert status == 403
    assert "own page" in told["error"]


def test_a_bomb_keeps_the_server_from_nothing(stocked):
    for number in range(20):
        put(stocked, f"bomb/c{number}.txt", f"{f'__c{number + 1}__ ' * 20}\nx")
    put(stocked, "bomb/c20.txt", "a\nb")
    body = question(
        text="__c0__ {!1-$$__c1__|b|c}" * 50, count=100, yaml_directory=f"{FOLDER}/bomb"
    )
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(ask, stocked, body) for _ in range(4)]
        status, told = 0, {}
        while status != 200:  # others are waiting already
            status, told = ask(stocked, question(text="{a|b}", count=2))
            assert status in (200, 503), told
            assert stocked.get("/luna/model_types")
        statuses = {each.result()[0] for each in asked}
    assert told["combinations"] == 2
    assert statuses <= {200, 400, 503}


def test_the_index_comes_in_pages(stocked):
    told = stocked.get(f"/luna/wildcards?yaml_directory={FOLDER}&start=deep/&limit=1")
    assert told == {"total": 1, "files": [{"name": "deep/animal", "file": "deep/animal.yaml"}]}


def test_every_example_of_the_grammar_in_node_and_route(stocked):
    folder = stocked.base / "models/wildcards/grammar"
    write_files(folder)
    library = Library([folder])
    examples = sorted({(text, dialect) for text, dialect, _ in rows()})
    prompt: dict[str, Any] = {}
    for number, (text, dialect) in enumerate(examples):
        prompt[f"n{number}"] = node(
            "LunaYAMLWildcard",
            prompt_template=text,
            seed=5,
            dialect=dialect,
            yaml_directory="grammar",
        )
        prompt[f"o{number}"] = {"class_type": "PreviewAny", "inputs": {"source": [f"n{number}", 0]}}
    outputs = stocked.run(prompt)
    for number, (text, dialect) in enumerate(examples):
        wanted = [expand(text, seed, library, DIALECTS[dialect]) for seed in (5, 6, 7)]
        assert outputs[f"o{number}"]["text"] == [wanted[0].text]
        asked = {"text": text, "seed": 5, "count": 3, "dialect": dialect}
        told = stocked.post("/luna/wildcards", {**asked, "yaml_directory": "grammar"})
        assert told["texts"] == [item.text for item in wanted]
        assert set(told["warnings"]) == {str(each) for item in wanted for each in item.warnings}
