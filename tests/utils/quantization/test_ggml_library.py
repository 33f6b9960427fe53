from __future__ import annotations

from pathlib import Path

import pytest
from luna_collection.utils.quantization import ggml_library


@pytest.fixture(autouse=True)
def forget() -> None:
    ggml_library.find.cache_clear()


def test_the_library_of_the_installed_package_is_found() -> None:
    library = ggml_library.find()
    assert library is not None
    assert library.path.name.startswith(("libggml-base", "ggml-base"))
    assert ggml_library.find() is library


def test_without_a_package_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        ggml_library, "PACKAGES", {"no_such_package": ("*",), "libggml": ("nowhere/*",)}
    )
    assert ggml_library.find() is None


def test_what_is_not_the_library_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.so").write_bytes(b"not a library")
    package = tmp_path / "broken_package"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    found = {"broken_package": ("../broken.so",), **ggml_library.PACKAGES}
    monkeypatch.setattr(ggml_library, "PACKAGES", found)
    assert ggml_library.find() is not None
