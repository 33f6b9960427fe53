"""Where settings come from, and how they are shown. What there is to set is in config.py.

Precedence: command line > environment > file > default.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
import os
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .config import DaemonConfig, check_value
from .errors import ConfigError

ENV_PREFIX = "LUNA_"


@dataclass(frozen=True, slots=True)
class Settings:
    """A configuration and, for each setting, where its value came from."""

    config: DaemonConfig
    origins: Mapping[str, str]


def default_config_file() -> Path:
    """Return where the YAML file is looked for when none is named."""
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA", Path.home())) / "luna-daemon" / "luna.yaml"
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "luna-daemon" / "luna.yaml"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Give a command-line parser one flag for each setting, and `--config`."""
    types = _types()
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file with settings.")
    for item in dataclasses.fields(DaemonConfig):
        flag = "--" + item.name.replace("_", "-")
        kind = types[item.name]
        help = f"{item.metadata['help']} (default: {_show(_default(item)) or 'none'})".replace(
            "%", "%%"
        )
        choices = item.metadata["choices"] or None
        parser.add_argument(
            flag,
            dest=item.name,
            default=argparse.SUPPRESS,
            choices=choices,
            metavar=None if choices else _metavar(kind),
            type=_flag_type(kind, flag),
            help=help,
        )


def resolve(
    flags: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """Merge all sources into one configuration.

    Args:
        flags: Values from the command line, by setting; already of the right type.
        env: The environment.
        file: A YAML file; None looks at `LUNA_CONFIG` and then at the default place.

    Raises:
        ConfigError: Unknown setting, unreadable file, or a value that cannot be used; the message names
            the source.
    """
    env = os.environ if env is None else env
    types = _types()
    values: dict[str, Any] = {}
    origins = dict.fromkeys(types, "default")

    def put(name: str, value: Any, origin: str) -> None:
        values[name] = value
        origins[name] = origin

    for name, value in _read_file(file, env).items():
        where = str(file or env.get(ENV_PREFIX + "CONFIG") or default_config_file())
        put(
            _known(name, types, where),
            _from_yaml(value, types.get(name), f"{where}: {name}"),
            f"file {where}",
        )
    for variable in sorted(env):
        if not variable.startswith(ENV_PREFIX) or variable == ENV_PREFIX + "CONFIG":
            continue
        name = _known(variable.removeprefix(ENV_PREFIX).lower(), types, "environment", ENV_PREFIX)
        put(name, parse(env[variable], types[name], variable), f"environment {variable}")
    for name, value in (flags or {}).items():
        put(name, value, "command line")
    if (
        values.get("service_type") == "vae"
        and "port" in (flags or {})
        and "vae_port" not in (flags or {})
    ):
        put(
            "vae_port", values["port"], "command line"
        )  # --port means the port of the daemon that starts
    _check_values(values, origins)
    return Settings(DaemonConfig(**values), origins)


def print_config(settings: Settings) -> str:
    """Return all settings with their origins, as a YAML file with comments."""
    lines = []
    for item in dataclasses.fields(settings.config):
        value = getattr(settings.config, item.name)
        dumped = yaml.safe_dump(_plain(value), default_flow_style=True, width=math.inf)
        shown = dumped.partition("\n")[0]
        lines.append(f"{item.name}: {shown}  # {settings.origins[item.name]}")
    return "\n".join(lines)


def settings_table() -> str:
    """Return the Markdown table of docs/settings.md."""
    rows = ["| setting | environment | default | what it does |", "|---|---|---|---|"]
    for item in dataclasses.fields(DaemonConfig):
        text = item.metadata["help"]
        if item.metadata["choices"]:
            text += " One of " + ", ".join(f"`{c}`" for c in item.metadata["choices"]) + "."
        shown = _show(_default(item))
        rows.append(
            f"| `{item.name}` | `{ENV_PREFIX}{item.name.upper()}` | {f'`{shown}`' if shown else ''} | {text} |"
        )
    return "\n".join(rows).replace(f"'{os.pathsep}'", "the platform's path separator")


def parse(raw: str, kind: Any, where: str) -> Any:
    """Turn a string into a setting's type.

    Raises:
        ConfigError: It cannot be that type.
    """
    try:
        if kind in (int, str):
            return kind(raw)
        if kind is float:
            return _number(raw)
        if kind == tuple[Path, ...]:
            return tuple(Path(part).expanduser() for part in raw.split(os.pathsep) if part)
        if kind == dict[str, float]:
            pairs = [part.rsplit("=", 1) for part in raw.split(",") if part.strip()]
            return {name.strip(): _number(number) for name, number in pairs}
        return Path(raw).expanduser() if raw else None
    except ValueError:
        raise ConfigError(f"{where} is '{raw}', which is not {_article(kind)}.") from None


def _number(raw: str) -> float:
    number = float(raw)
    if not math.isfinite(number):
        raise ValueError
    return number


def _read_file(file: Path | None, env: Mapping[str, str]) -> dict[str, Any]:
    named = file or (Path(env[ENV_PREFIX + "CONFIG"]) if env.get(ENV_PREFIX + "CONFIG") else None)
    path = named or default_config_file()
    if named is None and not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"The settings file {path} cannot be read: {error}.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"The settings file {path} must hold lines of the form 'name: value'.")
    return {str(name): value for name, value in content.items()}


def _from_yaml(value: Any, kind: Any, where: str) -> Any:
    if kind == dict[str, float] and isinstance(value, dict):
        value = ",".join(f"{name}={number}" for name, number in value.items())
    elif kind == tuple[Path, ...] and isinstance(value, list):
        return tuple(Path(str(part)).expanduser() for part in value)
    elif isinstance(value, (dict, list)):
        raise ConfigError(f"{where} must be {_article(kind)}.")
    return parse("" if value is None else str(value), kind, where)


def _known(name: str, types: Mapping[str, Any], where: str, prefix: str = "") -> str:
    if name in types:
        return name
    close = difflib.get_close_matches(name, types, n=1)
    shown = prefix + name.upper() if prefix else name
    suggestion = prefix + close[0].upper() if prefix and close else (close[0] if close else "")
    raise ConfigError(
        f"{where}: unknown setting '{shown}'.",
        f"Did you mean '{suggestion}'?" if suggestion else "Run with --help for the list.",
    )


def _check_values(values: Mapping[str, Any], origins: Mapping[str, str]) -> None:
    """Check like `DaemonConfig` itself, which does not know where the values came from."""
    for item in dataclasses.fields(DaemonConfig):
        if item.name in values:
            check_value(item, values[item.name], f" ({origins[item.name]})")


def _types() -> dict[str, Any]:
    return typing.get_type_hints(DaemonConfig)


def _default(item: dataclasses.Field[Any]) -> Any:
    return {} if item.default is dataclasses.MISSING else item.default


def _flag_type(kind: Any, flag: str) -> Any:
    def convert(raw: str) -> Any:
        try:
            return parse(raw, kind, flag)
        except ConfigError as error:
            raise argparse.ArgumentTypeError(error.message) from error

    return convert


def _metavar(kind: Any) -> str:
    return {int: "N", float: "NUMBER", str: "TEXT", dict[str, float]: "DEVICE=GB,…"}.get(
        kind, "PATH"
    )


def _article(kind: Any) -> str:
    names = {
        int: "a whole number",
        float: "a number",
        dict[str, float]: "a list like 'cuda:0=10,cpu=16'",
    }
    return names.get(kind, "a text")


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return [str(part) for part in value] if isinstance(value, tuple) else value


def _show(value: Any) -> str:
    return "" if value is None or value == () or value == {} else str(value)
