"""Every setting, once.

The command line, the `LUNA_*` environment variables, the YAML file, `--help`, `--print-config` and
docs/settings.md are all derived from the fields of `DaemonConfig` (config_sources.py).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import ConfigError
from .transport.endpoints import Endpoint, default_runtime_dir, has_unix_sockets, is_loopback

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
        "What runs models: comfy loads with ComfyUI whatever it can load, hf loads diffusers-layout folders with transformers and diffusers; auto: comfy where ComfyUI is found, else hf.",
        choices=("auto", "comfy", "hf"),
    )
    model_roots: tuple[Path, ...] = setting(
        (),
        f"Folders that models may lie in, separated by '{os.pathsep}'; with the comfy engine ComfyUI's own come on top.",
    )
    comfyui_path: Path | None = setting(
        None, "ComfyUI's folder; default: COMFYUI_PATH, or the one this package is installed in."
    )
    comfyui_python: Path | None = setting(
        None,
        "Python that runs ComfyUI; default: COMFYUI_PYTHON, or the environment in ComfyUI's folder, or the daemon's own.",
    )
    # Devices
    device: str = setting(
        "auto", "Device of every role that has none of its own: auto, cpu, mps, cuda:0, …"
    )
    clip_device: str = setting("", "Device of the text encoders; empty: device.")
    vae_device: str = setting("", "Device of the VAEs; empty: device.")
    clip_precision: str = setting(
        "auto",
        "Precision of text encoders. auto: with the hf engine fp32 on the CPU, else as stored in the file; with the comfy engine what ComfyUI chooses. fp32 holds half-precision weights in fp32: twice the memory or more, somewhat quicker on some CPUs. Results are then not bit-identical to 'file' or to ComfyUI where weights are patched, as by a LoRA. fp16, bf16 and file count for scripts; objects of ComfyUI keep its own choice.",
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
    sleeping_models_gb: float = setting(
        4.0,
        "RAM per GPU for models that had to leave it; they come back quicker than from disk. 0: they are dropped.",
        least=0,
    )
    share_weights: str = setting(
        "auto",
        "Workers on the CPU share one copy of a model's weights where the system can (Linux); off: each has its own.",
        choices=("auto", "off"),
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
    answer_cache_mb: int = setting(
        32,
        "Answers to repeated texts kept in the daemon's own process, which gives them without a worker; 0: none.",
        least=0,
    )
    answer_cache_largest_kb: int = setting(
        1024, "Largest answer that is kept there; others are kept by the workers alone.", least=1
    )
    patch_cache_mb: int = setting(
        2048, "LoRAs and other patches that clients sent, kept in a worker's RAM.", least=0
    )
    lora_cache_mb: int = setting(
        2048, "LoRA files that a ComfyUI keeps in its RAM for the nodes of this pack.", least=0
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
    request_timeout_s: float = setting(
        120.0,
        "A script's request is given up after this; a node's when the daemon has shown no sign of life for as long.",
        least=0.1,
    )
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
    # Log and monitoring
    log_level: str = setting(
        "info", "How much is logged.", choices=("debug", "info", "warning", "error")
    )
    log_format: str = setting(
        "text",
        "Lines for people, or one JSON object per line for programs.",
        choices=("text", "json"),
    )
    slow_request_s: float = setting(
        10.0,
        "A model call that takes longer than this is logged with its details; 0: off.",
        least=0,
    )
    metrics_port: int = setting(
        0,
        "Loopback port for monitoring over HTTP (/metrics, /status, /health); 0: off. The second daemon of split mode takes the next one.",
        least=0,
        most=65534,
    )

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            check_value(item, getattr(self, item.name))
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
    def http_port(self) -> int:
        """The port for monitoring of this service type; 0: off."""
        second = self.service_type == "vae" and self.metrics_port > 0
        return self.metrics_port + 1 if second else self.metrics_port

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


def check_value(item: dataclasses.Field[Any], value: Any, origin: str = "") -> None:
    """Raise ConfigError unless a setting may have this value. `origin`: shown behind it."""
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
