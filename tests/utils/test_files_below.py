from __future__ import annotations

import pytest
from luna_collection.utils.errors import InputError
from luna_collection.utils.files_below import (
    find_below,
    folder_below,
    folders_elsewhere,
    place_below,
)


@pytest.fixture
def roots(tmp_path):
    for name in ("one/a.json", "two/b.json", "two/deep/c.json", "secret.json"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
    return [tmp_path / "one", tmp_path / "two"]


@pytest.mark.parametrize("name", ["a.json", "b.json", "deep/c.json", "deep/../b.json"])
def test_a_file_below_a_root_is_found(roots, name):
    assert find_below(roots, name).is_file()


@pytest.mark.parametrize("name", ["../secret.json", "deep/../../secret.json"])
def test_a_name_that_leads_out_is_refused(roots, name):
    with pytest.raises(InputError, match="outside"):
        find_below(roots, name)


def test_an_absolute_name_is_refused(roots, tmp_path):
    with pytest.raises(InputError, match="outside"):
        find_below(roots, str(tmp_path / "secret.json"))


def test_a_link_that_leads_out_is_refused(roots, tmp_path):
    link = roots[0] / "link.json"
    try:
        link.symlink_to(tmp_path / "secret.json")
    except OSError:
        pytest.skip("This user may make no links.")
    with pytest.raises(InputError, match="outside"):
        find_below(roots, "link.json")


def test_a_missing_file_is_named(roots):
    with pytest.raises(InputError, match=r"'none\.json'"):
        find_below(roots, "none.json")


def test_where_links_lead_outside_of_the_roots(roots, tmp_path):
    disk = tmp_path / "disk"
    (disk / "deep").mkdir(parents=True)
    files = [disk / "deep" / "d.json", tmp_path / "secret.json"]
    files[0].write_text("{}")
    try:
        (roots[0] / "linked").symlink_to(disk, target_is_directory=True)
        (roots[1] / "linked.json").symlink_to(files[1])
        (roots[1] / "inside.json").symlink_to(roots[0] / "a.json")
    except OSError as error:  # Windows, for people who may not make links
        pytest.skip(f"no links can be made here: {error}")
    real = [root.resolve() for root in roots]
    own = ["a.json", "linked/deep/d.json"]
    named = [
        *(roots[0] / name for name in own),
        *(roots[1] / f"{n}.json" for n in ("linked", "inside")),
    ]
    assert folders_elsewhere(real, named) == {(disk / "deep").resolve(), tmp_path.resolve()}


def test_a_whole_path_may_lie_below_any_root(roots):
    assert find_below(roots, str(roots[1] / "b.json")) == (roots[1] / "b.json").resolve()


def test_a_folder_below_a_root_is_found(roots):
    assert folder_below(roots, "", "kind") == roots[0].resolve()
    assert folder_below(roots, "deep", "kind") == (roots[1] / "deep").resolve()
    assert folder_below(roots, str(roots[1]), "kind") == roots[1].resolve()


@pytest.mark.parametrize("name", ["..", "none", "a.json", "deep/../..", "/"])
def test_what_is_no_folder_below_a_root_is_refused(roots, name):
    with pytest.raises(InputError, match="'kind' to extra_model_paths"):
        folder_below(roots, name, "kind")


def test_a_place_need_not_be_there_and_stays_below(roots):
    assert place_below(roots[0], "new/x") == roots[0].resolve() / "new" / "x"
    assert place_below(roots[0], "") == roots[0].resolve()
    for name in ("../x", "new/../../x", str(roots[1])):
        with pytest.raises(InputError, match="leads out"):
            place_below(roots[0], name)
