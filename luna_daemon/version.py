"""The package's version, which every peer says of itself."""

from __future__ import annotations

from ..utils.package_version import PACKAGE_VERSION as PACKAGE_VERSION
