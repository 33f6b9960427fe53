"""Its own dialect, compared with dynamicprompts itself: the same texts can come out of both."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from luna_collection.utils.wildcards import Library, batch, find_dialect, probabilities

pytest.importorskip("dynamicprompts", reason="dynamicprompts is not installed")

from dynamicprompts.generators import RandomPromptGenerator
from dynamicprompts.wildcards import WildcardManager

# It uses names of pyparsing that are no longer the newest.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

DIALECT = find_dialect("dynamicprompts")
DRAWS = 400
FILES = {
    "color.txt": "# comment\nred\n\ngreen\nblue\nred\n",
    "tpl.txt": "a __color__ ${season:summer} dress\n",
    "rare.txt": "3::crow\nowl\n",
    "deep/cat.txt": "tabby\n{big|small} siamese\n",
    "deep/more/dog.txt": "beagle\n",
    "deep/rare.txt": "3::dodo\n",
    "pantry.yaml": "clothes:\n  tops: [shirt, 2::coat, {text: vest, weight: 3}]\n  hats: [fur hat]\nplain: [x, y]\n",
    "deep/below.json": '{"mood": ["calm", "wild"]}',
}
TEXTS = [
    *("{a|b}", " { a | b } x", "{a|}", "{|}", "{}", "{abc}", "{1-10}", "{file:group}", "{a|{b|c}}"),
    *("{0.5::a|b}", "{.5::a|b}", "{1.::a|b}", "{0::a|b}", "{a::b|c}", "{-1::a|b}", "{2::a|3::b}"),
    *("{2$$a|b|c}", "{2$$ and $$a|b}", "{1-$$a|b|c}", "{-2$$a|b|c}", "{0-1$$a|b}", "{5$$a|b}"),
    *("{2$$|$$a|b}", "{ 2$$a|b}", "{~2$$a|b}", "{1-2$$, $$a|b}", "{2$$a|a|b}", "{3$$a|b|{c|d}}"),
    *("__color__", "__~color__", "__rare__", "__deep/cat__", "__deep/*__", "__deep*__", "__col*__"),
    *("__clothes/tops__", "__clothes/*__", "__plain__", "__deep/mood__", "__cat__", "__d*g__"),
    *(
        "{2$$__color__}",
        "{2$$ and $$__color__}",
        "{2$$__color__|z}",
        "{__color__|x}",
        "__color__ __color__",
    ),
    *("__co{l|l}or__", "__${c:color}__", "__tpl__", "__tpl(season=winter)__", "__missing__"),
    *("__tpl(season={wet|dry})__", "${season=spring}__tpl__"),
    *(
        "${x={a|b}}${x} ${x}",
        "${y:none}",
        "${x=1}${x:none}",
        "${ x = 3 }${ x }",
    ),
    *("a # comment", "a, b", "x }", "a | b", "(a:1.2)", "[a:b:0.5]", "<lora:x:0.5>"),
    *("<lora:{a|b}:1>", "<lora:__color__:1>", "http://x.y/z", "\\{x\\}", "%{in … style$${a|b}}"),
    # Found with texts that a generator of its grammar made.
    *("{a|2 ::b}", "{a|2:: b}", "{ 2 ::a|b}", "{a|2:: {b|c}}", "{a|2::\nb}", "{2$$ 3::a|b}"),
    *("{3$$a||b}", "{2$$,$$a|,|b}", "{2$$ and $$|a}", "{1$$|a}", "{2$$a|}", "{2$$ and $$a|{b|}}"),
    *("__/color__", "__color/__", "__deep//cat__", "__deep/[ac]at__", "__deep/[!c]*__", "__*__"),
    *(
        "${x:a}${x=b}",
        "{${x:a}|c} ${x={1|2}}",
        "__tpl__${season=${x}}${x=wet}",
        "${x=a}{b}${x=c}${x}",
    ),
    *("__tpl(season=__color__)__", "__tpl( season = a b )__", "${x:  b}", "${x= {b|c} }${x}."),
    *("{a|b\n|c}", "line\n  {a|b}", "{__deep/cat__|__deep/more/dog__}", "a {b c} d", "{x, y|z}"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wildcards")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    return folder


@pytest.mark.parametrize("text", TEXTS)
def test_the_same_texts_come_out(folder, text, caplog):
    caplog.set_level(logging.CRITICAL)
    theirs = set(RandomPromptGenerator(WildcardManager(folder), seed=1).generate(text, DRAWS))
    possible = set(probabilities(text, Library([folder]), DIALECT))
    assert theirs == possible


@pytest.mark.parametrize("text", ["${x=!{a|b}}${x}${x}", "${season=!{a|b}}__tpl__ ${season}"])
def test_what_is_rolled_once_is_rolled_once(folder, text):
    # There, once is for all prompts of a call.
    manager = WildcardManager(folder)
    theirs = {RandomPromptGenerator(manager, seed=seed).generate(text, 1)[0] for seed in range(80)}
    assert theirs == set(probabilities(text, Library([folder]), DIALECT))


@pytest.mark.parametrize(
    "text", ["{@a|b|c}", "{@a|b} {@x|y|z}", "__@color__", "__@deep/more/dog__ {@1|2}"]
)
def test_what_comes_in_turn_comes_in_the_same_order(folder, text):
    theirs = RandomPromptGenerator(WildcardManager(folder), seed=1).generate(text, 12)
    assert theirs == [item.text for item in batch(text, 1, 12, Library([folder]), DIALECT)]


@pytest.mark.parametrize(
    "text", ["x {", "{a|b", "50% off", "$5", "a_b__c", "<lora:x__0.3~0.6:1>", "${unset}"]
)
def test_what_is_an_error_there_stays_in_the_text_here(folder, text):
    with pytest.raises(Exception, match=r"Expected|not defined"):
        RandomPromptGenerator(WildcardManager(folder), seed=1).generate(text, 1)
    assert probabilities(text, Library([folder]), DIALECT) == {text: 1.0}
