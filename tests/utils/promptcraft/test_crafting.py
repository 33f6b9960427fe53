"""Prompts from templates: what is picked, what follows from it, and that runs leave nothing behind."""

from __future__ import annotations

import pytest
from luna_collection.utils.promptcraft import CraftLibrary, Settings, craft, tags_of
from luna_collection.utils.wildcards import WildcardError

DATA = """
setting:
  indoor: [bedroom, kitchen]
  outdoor: [{value: beach, tags: [water, sun]}, {value: street, weight: 3}]
clothing:
  name: Clothing
  common_tags: [worn]
  items:
    - {id: swim.bikini, text: bikini, tags: [wet], whitelist: [water]}
    - {id: warm.coat, text: winter coat, blacklist: [sun], payload: "<lora:coat:0.5>"}
    - {id: day.shirt, text: shirt}
    - {id: crown, text: crown, requires_tags: [water, gold]}
"""
QUIET = Settings(False, False, False, False, False)


def prompts(template: str, inline: str, settings: Settings | None = None, seeds: int = 200):
    library = CraftLibrary(inline=inline)
    return [craft(template, seed, library, settings) for seed in range(seeds)]


def outcomes(template: str, inline: str = DATA, settings: Settings | None = None) -> set[str]:
    return {crafted.prompt for crafted in prompts(template, inline, settings)}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{setting}", {"bedroom", "kitchen", "beach", "street"}),
        ("{setting:outdoor}", {"beach", "street"}),
        ("{setting.indoor}", {"bedroom", "kitchen"}),
        ("__setting:indoor__", {"bedroom", "kitchen"}),
        ("{ Setting : Indoor }", {"bedroom", "kitchen"}),
        ("{clothing:warm}", {"winter coat"}),
        ("{clothing:warm.coat}", {"winter coat"}),
        ("{clothing:wet}", {"bikini"}),
        ("a {setting:indoor|garden|{1-2}}", {"a setting:indoor", "a garden", "a 1", "a 2"}),
        ("a {{setting:indoor}|garden}", {"a bedroom", "a kitchen", "a garden"}),
        (r"\{setting\}", {"{setting}"}),
        ("<lora:__setting__:1> (x:1.2) [a:b:0.5]", {"<lora:__setting__:1> (x:1.2) [a:b:0.5]"}),
        ("<lora:{setting:indoor}:1>", {"<lora:bedroom:1>", "<lora:kitchen:1>"}),
    ],
)
def test_what_a_template_can_become(template, expected):
    assert outcomes(template, settings=QUIET) == expected


def test_an_unknown_name_stays_and_is_reported():
    crafted = craft("{nothing} and {setting:nowhere}", 1, CraftLibrary(inline=DATA))
    assert crafted.prompt == "{nothing} and {setting:nowhere}"
    told = " ".join(map(str, crafted.warnings))
    assert "nothing" in told
    assert "nowhere" in told


def test_tags_of_earlier_picks_decide():
    for crafted in prompts("{setting:outdoor}, {clothing}", DATA):
        place, worn = crafted.prompt.split(", ")
        assert worn in ({"bikini", "shirt"} if place == "beach" else {"winter coat", "shirt"})
        assert not any(pick.relaxed for pick in crafted.picks)


def test_required_tags_have_to_be_there_all():
    library = CraftLibrary(inline=DATA)

    def texts(*tags: str) -> set[str]:
        given = tags_of(tags)
        return {craft("{clothing}", seed, library, tags=given).prompt for seed in range(100)}

    assert "crown" not in texts("water")
    assert "crown" in texts("Water", "gold")


def test_tags_give_way_when_nothing_would_be_left_and_it_is_said():
    crafted = craft("{clothing:swim}", 3, CraftLibrary(inline=DATA))
    assert crafted.prompt == "bikini"
    assert crafted.picks[0].relaxed == "tags"


CONSTRAINED = """
mood: [happy, sad, calm]
place: {city: [alley, plaza], wild: [forest, desert]}
thing: [red lantern, blue lantern, old tree, tall tree, cactus]
x.constraint:
  place:city:
    thing: {incompatible: [tree, cactus]}
  place.wild:
    thing: {compatible: [tree, "10::cactus"]}
  "mood:happy":
    thing: {compatible: [unicorn]}
  sad:
    thing: {incompatible: [lantern, tree, cactus]}
"""


def test_constraints_hold_unless_nothing_remains():
    for crafted in prompts("{place}, {thing}", CONSTRAINED, seeds=300):
        place, thing = crafted.prompt.split(", ")
        assert ("lantern" in thing) == (place in ("alley", "plaza"))
    free = prompts("{place}, {thing}", CONSTRAINED, Settings(constraints=False))
    assert any("alley" in each.prompt and "tree" in each.prompt for each in free)


def test_a_constraint_counts_only_after_its_source():
    assert {each.picks[0].text for each in prompts("{thing}, {place}", CONSTRAINED)} >= {"cactus"}


def test_constraints_that_leave_nothing_are_dropped_and_it_is_said():
    for crafted in prompts("{mood}, {thing}", CONSTRAINED):
        assert crafted.picks[1].relaxed == ""  # paths of hierarchical items are no ids
    library = CraftLibrary(inline=CONSTRAINED.replace("  sad:", "  mood:mood_1:"))
    crafted = [craft("{mood}, {thing}", seed, library) for seed in range(60)]
    sad = [each for each in crafted if each.prompt.startswith("sad")]
    assert sad
    assert all(each.picks[1].relaxed == "constraints" for each in sad)
    assert not any(each.picks[1].relaxed for each in crafted if each not in sad)


MODIFIED = """
hats: {straw: [sun hat], wool: [beanie]}
weather: [{value: rain, tags: [wet]}, {value: sun, tags: [dry]}]
hats.modifier:
  straw: {modifiers: [worn out], allow_states: [dry]}
  hats: {modifiers: [soaked, dripping], compatible: [rain]}
"""


def test_the_first_modifier_that_fits_is_put_behind_the_pick():
    found = outcomes("{weather}, {hats}", MODIFIED)
    assert found == {
        "rain, sun hat, soaked", "rain, sun hat, dripping", "rain, beanie, soaked",
        "rain, beanie, dripping", "sun, sun hat, worn out", "sun, beanie",
    }  # fmt: skip
    plain = outcomes("{weather}, {hats}", MODIFIED, Settings(modifiers=False))
    assert plain == {"rain, sun hat", "rain, beanie", "sun, sun hat", "sun, beanie"}


EXPANDED = """
place: {sea: [beach, cliff], town: [square]}
light:
  paths: [sunny, grey]
one.expander:
  waves: {paths: ["place:sea"], values: [waves, foam, "gulls, {many|few}"], count: [1, 2]}
  place:town: {details: [tiles], atmosphere: [noise]}
  never: {paths: ["*"], values: [snow], weight: 0}
"""


def test_expanders_add_once_at_the_end_however_often_a_place_was_picked():
    for crafted in prompts("{place:sea} and {place:sea} and {place:sea}", EXPANDED):
        assert 1 <= len(crafted.expansions) <= 2
        assert len(set(crafted.expansions)) == len(crafted.expansions)
        assert crafted.prompt.endswith(", ".join(crafted.expansions))
        assert set(crafted.expansions) <= {"waves", "foam", "gulls, many", "gulls, few"}
    assert outcomes("{place:town}", EXPANDED) == {"square, tiles, noise"}
    off = prompts("{place:sea}", EXPANDED, Settings(expanders=False))
    assert not any(each.expansions for each in off)


LINKED = """
who: [{value: knight, tags: [armour]}, {value: witch, tags: [magic]}]
where: [castle]
who.lora:
  armour:
    loras:
      - {name: steel, model_weight: 0.8, clip_weight: 0.4, trigger: shiny steel, priority: 1}
      - {name: shared, priority: 9}
  where:
    loras: [{name: Shared, model_weight: 0.2, priority: 3, trigger: [Knight, keep]}]
    embeddings: [good, {name: bad, weight: 0.5, format: "<{name}|{weight}>"}]
"""


def test_linked_loras_come_once_and_by_priority():
    for crafted in prompts("{who} at {where}", LINKED, seeds=20):
        knight = crafted.prompt.startswith("knight")
        names = [(each.name, each.model_weight, each.clip_weight) for each in crafted.linked.loras]
        if knight:
            assert names == [("shared", 1.0, 1.0), ("steel", 0.8, 0.4)]
            expected = "knight at castle, shiny steel, embedding:good, <bad|0.5>"
        else:
            assert names == [("Shared", 0.2, 0.2)]
            expected = "witch at castle, Knight, keep, embedding:good, <bad|0.5>"
        assert crafted.prompt == expected


def test_trigger_words_can_stay_out_of_the_prompt():
    crafted = craft("{where}", 1, CraftLibrary(inline=LINKED), Settings(trigger_words=False))
    assert crafted.prompt == "castle, embedding:good, <bad|0.5>"
    assert crafted.linked.triggers == ("Knight", "keep")


def test_chains_resolve_in_order_and_share_what_was_picked():
    data = CONSTRAINED + 'x.chain:\n  scene: {steps: [place, "the {thing}"], separator: " with "}\n'
    for crafted in prompts("{scene}!", data):
        assert " with the " in crafted.prompt
        assert ("lantern" in crafted.prompt) == (crafted.picks[0].text in ("alley", "plaza"))


def test_a_file_of_tags_gives_tags_by_path():
    data = "hair: {long: [braid], short: [bob]}\nhair.tags: {long: [needs brush]}\n"
    tags = {each.prompt: each.tags for each in prompts("{hair}", data)}
    assert tags == {"braid": {"needs brush"}, "bob": frozenset()}


def test_items_contain_others_and_their_payloads_are_collected():
    data = "outfit: [{value: '__top__ and {shoes}', payload: A}]\ntop: [vest]\nshoes: [{text: boots, payload: B}]"
    crafted = craft("__outfit__", 5, CraftLibrary(inline=data))
    assert crafted.prompt == "vest and boots"
    assert crafted.payloads == ("A", "B")


def test_an_item_that_leads_back_to_itself_ends():
    crafted = craft("{a}", 1, CraftLibrary(inline="a: ['x {b}']\nb: ['y {a}']"))
    assert crafted.prompt == "x y {a}"
    assert "a" in str(crafted.warnings[0])


def test_a_bomb_of_items_is_refused():
    data = "\n".join(
        f"a{n}: ['{{a{n + 1}}} {{a{n + 1}}}', '{{a{n + 1}}} {{a{n + 1}}} x']" for n in range(40)
    )
    with pytest.raises(WildcardError, match="does not end"):
        craft("{a0}", 1, CraftLibrary(inline=data + "\na40: [end]"))


def test_switching_the_rest_off_changes_no_pick():
    data = EXPANDED + MODIFIED.replace("hats.modifier", "h.modifier")
    library = CraftLibrary(inline=data)
    for seed in range(50):
        all_on = craft("{place} {weather} {hats} {x|y}", seed, library)
        all_off = craft("{place} {weather} {hats} {x|y}", seed, library, QUIET)
        before = [pick.item for pick in all_on.picks if pick.item.category != "light"]
        assert before[:3] == [pick.item for pick in all_off.picks][:3]
        assert all_on.prompt.split()[0] == all_off.prompt.split()[0]


def test_nothing_accumulates_over_runs():
    library = CraftLibrary(inline=CONSTRAINED + MODIFIED)
    template = "{place} {thing} {weather} {hats}"
    first = [craft(template, seed, library) for seed in range(40)]
    for seed in range(400):
        craft(template, seed, library)
    again = [craft(template, seed, library) for seed in range(40)]
    fresh = [
        craft(template, seed, CraftLibrary(inline=CONSTRAINED + MODIFIED)) for seed in range(40)
    ]
    assert [each.prompt for each in first] == [each.prompt for each in again]
    assert [each.prompt for each in first] == [each.prompt for each in fresh]


def test_these_seeds_give_these_texts_on_every_platform():
    library = CraftLibrary(inline=DATA)
    found = [
        craft("{setting}, {clothing}, {1-100}", s, library).prompt for s in (0, 1, 2, 2**63, -5)
    ]
    assert found == GOLDEN


GOLDEN = [
    "street, shirt, 5",
    "bedroom, shirt, 59",
    "street, shirt, 38",
    "street, shirt, 88",
    "street, shirt, 13",
]
