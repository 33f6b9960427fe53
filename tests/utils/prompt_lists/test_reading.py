from __future__ import annotations

import csv
import io
import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from luna_collection.utils.errors import InputError
from luna_collection.utils.loras.stack import LoraEntry
from luna_collection.utils.prompt_lists.entry import MAX_SEED, PromptEntry
from luna_collection.utils.prompt_lists.reading import read_list

WORDS = st.text("abc ,;:\"'|-#{}[]äß漢\n", min_size=1, max_size=20).filter(lambda t: t.strip() == t)
ENTRIES = st.lists(
    st.fixed_dictionaries(
        {
            "positive": WORDS,
            "negative": st.one_of(st.just(""), WORDS),
            "seed": st.integers(0, MAX_SEED),
            "width": st.integers(1, 4096),
            "height": st.integers(1, 4096),
        }
    ),
    min_size=1,
    max_size=5,
)


def written(entries: list[dict[str, object]], ending: str) -> bytes:
    if ending == "csv":
        out = io.StringIO()
        table = csv.DictWriter(out, list(entries[0]))
        table.writeheader()
        table.writerows(entries)
        return out.getvalue().encode()
    if ending == "jsonl":
        return "\n".join(map(json.dumps, entries)).encode()
    if ending == "yaml":
        return yaml.safe_dump(entries, allow_unicode=True).encode()
    return json.dumps(entries, indent=1).encode()


@given(entries=ENTRIES)
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("ending", ["csv", "json", "jsonl", "yaml"])
def test_every_format_gives_what_was_written(entries, ending):
    read = read_list(written(entries, ending), f"list.{ending}").entries
    assert [
        {
            "positive": entry.positive,
            "negative": entry.negative,
            "seed": entry.seed,
            "width": entry.width,
            "height": entry.height,
        }
        for entry in read
    ] == entries
    assert sorted({entry.line for entry in read}) == [entry.line for entry in read]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_first_line_may_name_the_delimiter(mark):
    text = f'sep={mark}\r\nprompt{mark}seed\r\n"a, b; c"{mark}5\r\nx{mark}nine\r\n'
    with pytest.raises(InputError, match="line 4: its seed is 'nine'"):
        read_list(text.encode(), "a.csv")
    (entry,) = read_list(text.rpartition("x")[0].encode(), "a.csv").entries
    assert (entry.positive, entry.seed) == ("a, b; c", 5)


def test_csv_of_a_spreadsheet():
    text = (
        "\ufeffPositive;Negative Prompt;Seed;LoRAs;Width;Height;My notes\r\n"
        'a cat, "big";blurry;-1;"ink:0.8; film.safetensors:1:0.5";832;1216;x\r\n'
        ";;;;;;\r\n"
        '"two\nlines";;7;<lora:ink:0.3>\r\n'
    ).replace('a cat, "big"', '"a cat, ""big"""')
    first, second = read_list(text.encode(), "a.csv").entries
    assert first.positive == 'a cat, "big"'
    assert (first.negative, first.seed, first.width, first.height) == ("blurry", None, 832, 1216)
    assert first.loras == (LoraEntry("ink", 0.8, 0.8), LoraEntry("film.safetensors", 1.0, 0.5))
    assert (first.line, second.line) == (2, 4)
    assert second.positive == "two\nlines"
    assert (second.seed, second.loras) == (7, (LoraEntry("ink", 0.3, 0.3),))


def test_strengths_may_have_a_decimal_comma():
    text = 'positive;loras\r\na cat;"ink:0,8;film:1,0:-0,5"\r\n'
    (entry,) = read_list(text.encode(), "a.csv").entries
    assert entry.loras == (LoraEntry("ink", 0.8, 0.8), LoraEntry("film", 1.0, -0.5))


def test_the_form_of_the_extractor_and_shorter_ones():
    entries = [
        {
            "positive_prompt": "p",
            "negative_prompt": "n",
            "loras": [{"name": "a", "model_strength": 0.5, "clip_strength": 0.25}, "b", ["c", 2]],
            "extra": {"seed": 5, "width": 64},
            "image_name": "one.png",
        },
        "only a prompt",
        {"prompt": "p", "size": "832x1216", "loras": [{"name": "d"}], "seed": None},
    ]
    first, second, third = read_list(json.dumps(entries).encode(), "a.json").entries
    assert (first.seed, first.width, first.name) == (5, 64, "one.png")
    assert first.loras == (
        LoraEntry("a", 0.5, 0.25),
        LoraEntry("b", 1.0, 1.0),
        LoraEntry("c", 2.0, 2.0),
    )
    assert second == PromptEntry("only a prompt", line=1)
    assert (third.width, third.height, third.seed) == (832, 1216, None)
    assert third.loras == (LoraEntry("d", 1.0, 1.0),)


def test_yaml_keeps_what_is_written_and_merges_nothing():
    text = "- yes\n- prompt: 1.50\n  seed: 007\n  negative: ~\n"
    first, second = read_list(text.encode(), "a.yml").entries
    assert first.positive == "yes"
    assert (second.positive, second.seed, second.negative) == ("1.50", 7, "")


def test_a_file_that_is_not_utf8_is_read_and_said():
    read = read_list("positive\nCafé\n".encode("cp1252"), "a.csv")
    assert read.entries[0].positive == "Café"
    assert "'a.csv': line 2: this is not UTF-8" in read.note


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "x", "ends in none of .csv"),
        ("a.csv", "positive,seed\nx,1\ny,2,3\n", "line 3: it has 3 fields, but there are 2"),
        ("a.csv", "foo,bar\nx,1\n", "line 1: none of the columns 'foo', 'bar' is known"),
        ("a.csv", 'positive\n"open\n', "line 2: it is not valid CSV"),
        ("a.csv", "positive\n", "has no prompts"),
        ("a.csv", "positive,seed\nx,\ny,1.2E+15\n", r"line 3: its seed is '1\.2E\+15'"),
        ("a.csv", "seed\n5\n", "line 2: it has no prompt"),
        ("a.csv", "positive,width\nx,99999\n", "a side of 99999 pixels"),
        ("a.csv", "positive,loras\nx,a:b\n", "line 2: .*'b' is no strength"),
        ("a.csv", "positive,loras\nx,a:1:1:1\n", "has 3 strengths"),
        ("a.json", '[{"positive": "x"},\n\n{"positive": "x", "seed": -2}]', "line 3: its seed -2"),
        ("a.json", '[{"positive": "x"}\n "y"]', "line 2: a comma or the list's"),
        ("a.json", '[{"positive": "x",\n}]', "line 2: it is not valid JSON"),
        ("a.json", '["x"] y', "something behind"),
        ("a.json", '["x"', "a comma or the list's"),
        ("a.json", '{"a": 1}', "line 1: it is not a list"),
        ("a.json", "{", "not valid JSON"),
        ("a.json", "", "not valid JSON"),
        ("a.json", "[1]", "line 1: this is neither a prompt"),
        ("a.json", "[" * 100_000, "nested too deeply|not valid JSON"),
        ("a.json", '[{"positive": ["x"]}]', "its positive is no text"),
        ("a.json", '[{"positive": "x", "seed": true}]', "its seed is 'True'"),
        ("a.json", '[{"positive": "x", "loras": 5}]', "neither a list nor a text"),
        ("a.jsonl", '{"prompt": "x"}\n\n{"prompt": }', "line 3: it is not valid JSON"),
        ("a.yaml", "a: 1", "line 1: it is not a list"),
        ("a.yaml", "- x\n- 'y", "it is not valid YAML"),
        ("a.yaml", "- x\n- {positive: x, seed: many}", "line 2: its seed is 'many'"),
        ("a.yaml", "- x\n- &a [*a]", "recursive"),
        ("a.csv", "positive\n\0", "null bytes"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(name, text, said):
    with pytest.raises(InputError, match=said):
        read_list(text.encode(), name)


def test_a_long_list_knows_its_lines():
    text = json.dumps([{"positive": str(number)} for number in range(20_000)], indent=0)
    entries = read_list(text.encode(), "a.json").entries
    assert len(entries) == 20_000
    assert text.split("\n")[entries[-1].line - 1] == "{"
    assert entries[-1].positive == "19999"
