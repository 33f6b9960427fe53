from __future__ import annotations

import pytest
from luna_collection.utils.errors import InputError
from luna_collection.utils.files_below import find_below


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
