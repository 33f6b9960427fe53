"""Every setting, once.

The command line, the `LUNA_*` environment variables, the YAML file, `--help`, `--print-config` and
docs/settings.md are all derived from the fields of `DaemonConfig`.

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .errors import ConfigError
from .transport.endpoints import Endpoint, default_runtime_dir, has_unix_sockets, is_loopback

ENV_PREFIX = "LUNA_"
GIB = 2**30
MIB = 2**20
PRECISIONS = ("auto", "fp32", "fp16", "bf16", "file")


def setting(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] = (),
    least: float | None = None,
    most: float | None = None,
) -> Any:
    """Declare a setting: its default, one sentence, and what it may be."""
    metadata = {"help": help, "choices": tuple(choices), "least": least, "most": most}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class DaemonConfig:
    """Settings of one daemon, and of a client that looks for it."""

    # Where it listens
    host: str = setting("127.0.0.1", "Loopback address for TCP connections.")
    port: int = setting(
        19283,
        "TCP port; also names the daemon's socket and lock. 0 takes a free one.",
        least=0,
        most=65535,
    )
    vae_port: int = setting(
        19284, "Port of the second daemon in split mode (service_type vae).", least=0, most=65535
    )
    socket_path: Path | None = setting(
        None, "Unix socket; default: daemon-<port>.sock in runtime_dir."
    )
    runtime_dir: Path | None = setting(
        None, "Folder for socket, lock, token and log; default: the user's runtime folder."
    )
    token_path: Path | None = setting(
        None, "File with the token for TCP connections; default: token in runtime_dir."
    )
    # What it serves
    service_type: str = setting(
        "full",
        "Serve everything, text encoders only, or VAEs only.",
        choices=("full", "clip", "vae"),
    )
    engine: str = setting(
        "auto",
        "What runs models: hf loads diffusers-layout folders with transformers and diffusers.",
        choices=("auto", "hf"),
    )
    model_roots: tuple[Path, ...] = setting(
        (),
        f"Folders that models may lie in, separated by '{os.pathsep}'; default: ComfyUI's models folder.",
    )
    comfyui_path: Path | None = setting(
        None, "ComfyUI's folder; default: COMFYUI_PATH, or the one this package is installed in."
    )
    # Devices
    device: str = setting(
        "auto", "Device of every role that has none of its own: auto, cpu, mps, cuda:0, …"
    )
    clip_device: str = setting("", "Device of the text encoders; empty: device.")
    vae_device: str = setting("", "Device of the VAEs; empty: device.")
    clip_precision: str = setting(
        "auto",
        "Precision of text encoders; auto: fp32 on the CPU, else as stored in the file.",
        choices=PRECISIONS,
    )
    vae_precision: str = setting(
        "auto",
        "Precision of VAEs; auto: fp32 on the CPU, else as stored in the file.",
        choices=PRECISIONS,
    )
    device_budgets_gb: dict[str, float] = setting(
        {},
        "Memory that models may take per device, e.g. 'cuda:0=10,cpu=16'; default: half of RAM, VRAM less 2 GB.",
        least=0,
    )
    # Workers
    min_clip_workers: int = setting(
        0,
        "Worker processes kept ready for text encoders; 0 starts them with the first use.",
        least=0,
        most=16,
    )
    max_clip_workers: int = setting(
        1, "Most worker processes on the text encoders' device.", least=1, most=16
    )
    min_vae_workers: int = setting(0, "Worker processes kept ready for VAEs.", least=0, most=16)
    max_vae_workers: int = setting(
        1, "Most worker processes on the VAEs' device.", least=1, most=16
    )
    scale_up_wait_s: float = setting(
        2.0, "A further worker starts when requests wait longer than this.", least=0
    )
    idle_timeout_s: float = setting(
        60.0, "A further worker stops after this long without work.", least=1
    )
    worker_threads: int = setting(
        0, "CPU threads of a worker; 0: all cores, without spinning.", least=0, most=1024
    )
    max_batch: int = setting(8, "Most requests that a worker gets in one go.", least=1, most=256)
    max_queue: int = setting(256, "Most waiting requests per device; more are rejected.", least=1)
    # Caches
    conditioning_cache_mb: int = setting(
        256, "Results of text encoders kept in a worker's RAM.", least=0
    )
    arena_mb: int = setting(
        256, "Shared memory per connection and direction; used pages only.", least=1, most=65536
    )
    transport: str = setting(
        "auto",
        "How tensors travel: auto takes the best way that a test tensor survives.",
        choices=("auto", "memfd", "named", "inline"),
    )
    # Time-outs
    connect_timeout_s: float = setting(5.0, "A client gives up connecting after this.", least=0.1)
    request_timeout_s: float = setting(120.0, "A client gives up a request after this.", least=0.1)
    load_timeout_s: float = setting(
        600.0, "A client gives up registering models after this.", least=1
    )
    handshake_timeout_s: float = setting(
        5.0, "A peer must have introduced itself within this.", least=0.1
    )
    lease_grace_s: float = setting(
        30.0, "Models of a lost connection stay claimed for this long.", least=0
    )
    worker_start_timeout_s: float = setting(300.0, "A worker must be ready within this.", least=1)
    heartbeat_timeout_s: float = setting(
        30.0, "A worker that gives no sign of life for this long is replaced.", least=1
    )
    drain_timeout_s: float = setting(30.0, "At the end, running requests get this long.", least=0)
    # Log
    log_level: str = setting(
        "info", "How much is logged.", choices=("debug", "info", "warning", "error")
    )

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            _check_value(item, getattr(self, item.name))
        if not is_loopback(self.host):
            raise ConfigError(
                f"host is '{self.host}'; the daemon listens on this machine only.",
                "Use 127.0.0.1 or ::1.",
            )
        for pool in ("clip", "vae"):
            least, most = getattr(self, f"min_{pool}_workers"), getattr(self, f"max_{pool}_workers")
            if least > most:
                raise ConfigError(
                    f"min_{pool}_workers is {least}, more than max_{pool}_workers, {most}."
                )

    @property
    def listen_port(self) -> int:
        """The port of this service type: in split mode the VAE daemon has its own."""
        return self.vae_port if self.service_type == "vae" else self.port

    @property
    def folder(self) -> Path:
        """The runtime folder."""
        return self.runtime_dir or default_runtime_dir()

    @property
    def endpoint(self) -> Endpoint:
        """Where this daemon listens and where a client finds it."""
        socket_path = None
        if has_unix_sockets():
            socket_path = self.socket_path or self.folder / f"daemon-{self.listen_port}.sock"
        token = self.token_path or self.folder / "token"
        return Endpoint(socket_path, self.host, self.listen_port, token)

    def device_of(self, pool: str) -> str:
        """Return the device setting of a pool: clip or vae."""
        return str(getattr(self, f"{pool}_device") or self.device)


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
            _check_value(item, values[item.name], f" ({origins[item.name]})")


def _check_value(item: dataclasses.Field[Any], value: Any, origin: str = "") -> None:
    choices, least, most = (item.metadata[k] for k in ("choices", "least", "most"))
    if choices and value not in choices:
        raise ConfigError(
            f"{item.name} is '{value}'{origin}; it must be one of {', '.join(choices)}."
        )
    for number in value.values() if isinstance(value, dict) else (value,):
        # "not at least": NaN is neither less nor more than anything.
        if least is not None and not number >= least:
            raise ConfigError(f"{item.name} is {number}{origin}; it must be at least {least}.")
        if most is not None and not number <= most:
            raise ConfigError(f"{item.name} is {number}{origin}; it must be at most {most}.")


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
