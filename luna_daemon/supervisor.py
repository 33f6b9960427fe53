"""The daemon's state, and what happens at its start and end. Never imports torch."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from ..utils.log import get_logger
from ..utils.model_types import POOL_OF_KIND, POOLS_OF_SERVICE
from .agreement import NumericsAgreement
from .answer_cache import AnswerCache
from .comfyui_folder import find_comfyui_python
from .config import GIB, MIB, DaemonConfig
from .errors import ConfigError
from .gpus import gpu_memory
from .instance_lock import is_alive
from .model_locator import ModelLocator
from .model_roots import comfyui_model_roots
from .monitoring.metrics import Metrics
from .part_files import is_unchanged
from .protocol.worker_messages import ModelSpec, Setup
from .scheduler.placement import Placement, ScalingLimits
from .scheduler.residency import Budget
from .scheduler.workflows import WorkflowRegistry
from .sessions import Session
from .transport.arena import sweep_orphans
from .workers.environment import device_inside
from .workers.interpreter import check_python
from .workers.memory import MemorySettings
from .workers.pool import DeviceSettings, DeviceWorkers, WorkerPool
from .workers.process import WorkerProcess
from .workers.weight_images import can_share_weights

log = get_logger("daemon")
VRAM_MARGIN_BYTES = 2 * GIB


class Supervisor:
    """Everything that handlers work on: configuration, leases, workers, sessions, counts."""

    def __init__(self, config: DaemonConfig, comfyui_path: Path | None = None) -> None:
        self.config = config
        self.boot_id = secrets.token_hex(8)
        self.started_at = time.time()  # to be shown; what is waited for goes by the other clock
        self._started = time.monotonic()
        self.metrics = Metrics()
        self.sessions: dict[int, Session] = {}
        self.draining = False
        self.stop_requested = asyncio.Event()
        self.engine = _choose_engine(config, comfyui_path)
        self.comfyui_path = comfyui_path
        self.numerics = NumericsAgreement()
        self.agreeing = asyncio.Lock()
        self._particular: set[int] = set()  # sessions that need the settings as they are
        self.registry = WorkflowRegistry(config.lease_grace_s)
        self.answers = AnswerCache(
            config.answer_cache_mb * MIB, config.answer_cache_largest_kb * 1024
        )
        self.locator = ModelLocator(_model_roots(config, self.engine, comfyui_path))
        self._worker_python = _worker_python(config, self.engine, comfyui_path)
        gpus = gpu_memory()
        pools = POOLS_OF_SERVICE[config.service_type]
        devices = {pool: resolve_device(config.device_of(pool), pool, len(gpus)) for pool in pools}
        self.placement = Placement(config.service_type, devices)
        self.pool = WorkerPool(
            self._device_workers(device, gpus) for device in sorted(set(devices.values()))
        )
        self._expiring: asyncio.Task[None] | None = None

    @property
    def uptime_s(self) -> float:
        """How long the daemon has run."""
        return time.monotonic() - self._started

    def start(self) -> None:
        """Sweep what a killed daemon left, and start the workers that are to be ready."""
        for name in sweep_orphans(is_alive):
            log.info("removed shared memory '%s' of a daemon that was killed", name)
        self._expiring = asyncio.create_task(self._expire_leases())
        self.pool.start()

    async def stop(self) -> None:
        """Drain: refuse new work, let requests finish, end workers and sessions."""
        self.draining = True
        under_way = [task for s in self.sessions.values() for task in s.serving]
        if under_way:
            log.info("waiting for %d requests to finish", len(under_way))
            await asyncio.wait(under_way, timeout=self.config.drain_timeout_s)
        await self.pool.stop(timeout_s=0.0)
        for session in list(self.sessions.values()):
            session.channel.close()
            await session.close()
        if self._expiring is not None:
            self._expiring.cancel()

    def precision_of(self, role: str) -> str:
        """Return the precision that models of a role are loaded in."""
        pool = self.placement.pool_of(role)
        wanted = str(getattr(self.config, f"{pool}_precision"))
        if wanted != "auto":
            return wanted
        return "fp32" if self.placement.device_of(pool) == "cpu" else "file"

    def pool_of(self, spec: ModelSpec) -> str:
        """Return the pool that serves a model.

        Raises:
            BadRequestError: No such role, or another daemon's task.
        """
        if spec.kind is None:
            return self.placement.pool_of(spec.role)
        pool = POOL_OF_KIND[spec.kind]
        self.placement.device_of(pool)
        return pool

    async def agree_numerics(self, theirs: Mapping[str, str], session: int) -> None:
        """Let the workers run with a client's settings, when no other client needs others.

        Scripts take what there is: what they hold keeps nobody from changing it.

        Raises:
            IncompatibleError: Another client needs others.
        """
        holders = {lease.session for lease in self.registry.leases() if lease.ends_at is None}
        self._particular &= self.sessions.keys()
        held = bool(holders & self._particular - {session})
        if theirs:
            self._particular.add(session)
        if self.numerics.adopt(theirs, held=held):
            log.info("the workers run with the settings of a client's ComfyUI from now on")
            await self.pool.renew()

    def workers_of(self, pool: str) -> DeviceWorkers:
        """Return the workers of a pool's device.

        Raises:
            BadRequestError: This daemon does not serve the pool.
        """
        return self.pool.devices[self.placement.device_of(pool)]

    def _device_workers(self, device: str, gpus: list[int]) -> DeviceWorkers:
        config = self.config
        pools = [pool for pool, used in self.placement.devices.items() if used == device]
        limits = ScalingLimits(
            least=max(getattr(config, f"min_{pool}_workers") for pool in pools),
            most=max(getattr(config, f"max_{pool}_workers") for pool in pools),
            wait_s=config.scale_up_wait_s,
            idle_s=config.idle_timeout_s,
        )
        settings = DeviceSettings(
            device=device,
            memory=_memory_settings(config, device, gpus),
            limits=limits,
            max_queue=config.max_queue,
            max_batch=config.max_batch,
            heartbeat_s=config.heartbeat_timeout_s,
        )
        return DeviceWorkers(
            settings,
            self._start_worker,
            self.registry.is_leased,
            self.metrics,
            self._is_unchanged,
        )

    async def _is_unchanged(self, spec: ModelSpec) -> bool:
        """Are the model's files still those that its key was made of?"""
        if spec.kind is not None:
            return await asyncio.to_thread(is_unchanged, self.locator, spec)
        return await asyncio.to_thread(self.locator.is_unchanged, spec, engine=self.engine)

    async def _start_worker(self, name: str, device: str) -> WorkerProcess:
        setup = Setup(
            name=name,
            engine=self.engine,
            device=device_inside(device),
            conditioning_cache_bytes=self.config.conditioning_cache_mb * MIB,
            log_level=self.config.log_level,
            comfyui_path=str(self.comfyui_path or ""),
            patch_cache_bytes=self.config.patch_cache_mb * MIB,
            numerics=self.numerics.current,
        )
        if self._worker_python is not None:
            await check_python(self._worker_python)
        started = time.monotonic()
        worker = await WorkerProcess.start(
            setup,
            device,
            self.config.worker_threads,
            self.config.worker_start_timeout_s,
            python=self._worker_python,
        )
        log.info("%s is ready after %.1f s (pid %d)", name, time.monotonic() - started, worker.pid)
        self.metrics.count("worker_starts", device=device)
        return worker

    async def _expire_leases(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            for lease in self.registry.expire(time.monotonic()):
                log.info(
                    "the models of the lost workflow '%s' are no longer claimed", lease.workflow_id
                )


def resolve_device(wanted: str, pool: str, gpus: int) -> str:
    """Return the device for a pool: what was set, or, for `auto`, a GPU if there is one.

    With two GPUs or more the text encoders go to the second: the first is where ComfyUI samples.
    """
    if wanted != "auto":
        return wanted
    if not gpus:
        return "cpu"
    return "cuda:1" if gpus > 1 and pool != "vae" else "cuda:0"


def _memory_settings(config: DaemonConfig, device: str, gpus: list[int]) -> MemorySettings:
    is_gpu = device.startswith("cuda")
    asleep = int(config.sleeping_models_gb * GIB) if is_gpu else 0
    return MemorySettings(
        device,
        Budget(_budget(config, device, gpus), asleep),
        # The default for the CPU is a cautious guess; the machine may well have room beyond it.
        strict=is_gpu or device in config.device_budgets_gb,
        shares_weights=config.share_weights == "auto" and can_share_weights(device),
    )


def _budget(config: DaemonConfig, device: str, gpus: list[int]) -> int:
    if device in config.device_budgets_gb:
        return int(config.device_budgets_gb[device] * GIB)
    index = int(device.partition(":")[2] or 0)
    if device.startswith("cuda") and index < len(gpus):
        return max(0, gpus[index] - VRAM_MARGIN_BYTES)
    return int(psutil.virtual_memory().total // 2)


def _choose_engine(config: DaemonConfig, comfyui_path: Path | None) -> str:
    if config.engine == "comfy" and comfyui_path is None:
        raise ConfigError(
            "engine is 'comfy', but ComfyUI was not found.",
            "Set comfyui_path or COMFYUI_PATH to ComfyUI's folder.",
        )
    if config.engine != "auto":
        return config.engine
    return "hf" if comfyui_path is None else "comfy"


def _worker_python(config: DaemonConfig, engine: str, comfyui_path: Path | None) -> Path | None:
    if engine != "comfy" or comfyui_path is None:
        return None
    return find_comfyui_python(comfyui_path, config.comfyui_python)


def _model_roots(config: DaemonConfig, engine: str, comfyui_path: Path | None) -> tuple[Path, ...]:
    if comfyui_path is None or (engine == "hf" and config.model_roots):
        return config.model_roots
    return (*config.model_roots, *comfyui_model_roots(comfyui_path))
