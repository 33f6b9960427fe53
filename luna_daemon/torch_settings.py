"""Settings of torch that decide about values, which nodes change while ComfyUI runs.

They belong to a process, and some to a thread, so a worker takes over those of the caller for each call:
autocast, reduced precision, which kernels may be used.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

Settings = dict[str, str]
_ON, _OFF = "on", "off"
_AUTOCAST = "autocast."
_MATMUL_PRECISION, _DEFAULT_DTYPE = "matmul_precision", "default_dtype"
_PRECISIONS = ("highest", "high", "medium")
# Functions that tell and set what is either on or off.
_SWITCHES: dict[str, tuple[Callable[[], bool], Callable[[bool], Any]]] = {
    "deterministic": (
        torch.are_deterministic_algorithms_enabled,
        lambda value: torch.use_deterministic_algorithms(value, warn_only=True),
    ),
    **{
        f"{name}_sdp": (
            getattr(torch.backends.cuda, f"{name}_sdp_enabled"),
            getattr(torch.backends.cuda, f"enable_{name}_sdp"),
        )
        for name in ("cudnn", "flash", "math", "mem_efficient")
        if hasattr(torch.backends.cuda, f"enable_{name}_sdp")
    },
}
# Attributes of torch.backends: name → its owner and the attribute.
_ATTRIBUTES: dict[str, tuple[Any, str]] = {
    f"{place}.{attribute}": (owner, attribute)
    for place, owner, attributes in (
        ("cudnn", torch.backends.cudnn, ("allow_tf32", "benchmark", "deterministic", "enabled")),
        ("mkldnn", torch.backends.mkldnn, ("enabled",)),
        (
            "cuda",
            torch.backends.cuda.matmul,
            (
                "allow_bf16_reduced_precision_reduction",
                "allow_fp16_accumulation",
                "allow_fp16_reduced_precision_reduction",
                "allow_tf32",
            ),
        ),
    )
    for attribute in attributes
}


def current_settings() -> Settings:
    """Return the settings of this thread. What this torch does not have, or does not tell, is left out."""
    found = {_MATMUL_PRECISION: torch.get_float32_matmul_precision()}  # sets some of the others
    found.update({name: _ON if tell() else _OFF for name, (tell, _) in _SWITCHES.items()})
    for name in _ATTRIBUTES:
        value = _told(name)
        if isinstance(value, bool):
            found[name] = _ON if value else _OFF
    found[_DEFAULT_DTYPE] = _dtype_name(torch.get_default_dtype())
    for device in ("cpu", "cuda", "mps", "xpu"):
        if torch.is_autocast_enabled(device):
            found[_AUTOCAST + device] = _dtype_name(torch.get_autocast_dtype(device))
    return found


def has_autocast(settings: Mapping[str, str]) -> bool:
    """Tell whether operations compute in other types than they are given."""
    return any(name.startswith(_AUTOCAST) for name in settings)


def without_autocast(settings: Mapping[str, str]) -> Settings:
    """Return all the other ones."""
    return {name: value for name, value in settings.items() if not name.startswith(_AUTOCAST)}


@contextlib.contextmanager
def under(settings: Mapping[str, str]) -> Iterator[None]:
    """Compute in here with other settings; those that are not named stay as they are.

    Raises:
        ValueError: There is no such setting, or it has no such value.
    """
    here = current_settings()
    before = {
        name: here[name] for name, value in settings.items() if here.get(name, value) != value
    }
    with contextlib.ExitStack() as stack:
        stack.callback(_set_all, before)
        _set_all({name: settings[name] for name in before})
        for name, dtype in settings.items():
            if name.startswith(_AUTOCAST):
                device = name.removeprefix(_AUTOCAST)
                stack.enter_context(torch.autocast(device, dtype=_dtype(dtype)))
            elif name not in here and name not in _KNOWN:
                raise ValueError(f"torch has no setting '{name[:40]}'")
        yield


def _told(name: str) -> Any:
    owner, attribute = _ATTRIBUTES[name]
    try:
        return getattr(owner, attribute)
    except (AttributeError, RuntimeError):  # another release, or set in a newer way that says more
        return None


def _set_all(settings: Mapping[str, str]) -> None:
    for name, value in settings.items():
        _set(name, value)


def _set(name: str, value: str) -> None:
    if name.startswith(_AUTOCAST):
        return
    if name == _DEFAULT_DTYPE:
        torch.set_default_dtype(_dtype(value))
    elif name == _MATMUL_PRECISION:
        if value not in _PRECISIONS:
            raise ValueError(f"'{name}' cannot be '{value[:40]}'")
        torch.set_float32_matmul_precision(value)
    elif value not in (_ON, _OFF):
        raise ValueError(f"'{name}' cannot be '{value[:40]}'")
    elif name in _SWITCHES:
        _SWITCHES[name][1](value == _ON)
    else:
        owner, attribute = _ATTRIBUTES[name]
        setattr(owner, attribute, value == _ON)


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"there is no element type '{name[:40]}'")
    return found


_KNOWN = {*_SWITCHES, *_ATTRIBUTES, _MATMUL_PRECISION, _DEFAULT_DTYPE}
