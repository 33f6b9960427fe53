"""Luna KSampler and its relatives: ComfyUI's sampler, fed by a pipe."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...utils.sampling.pipe import read_pipe
from .. import io_types
from ..schema import ADVANCED, node_schema
from . import sampling

_HIDDEN = [io.Hidden.unique_id, io.Hidden.dynprompt]
_NEEDED = (
    "model",
    "positive",
    "negative",
    "latent",
    "seed",
    "steps",
    "cfg",
    "sampler",
    "scheduler",
)
_ALIASES = ["ksampler", "sampler", "sample", "denoise", "txt2img", "img2img"]


class LunaKSampler(io.ComfyNode):
    """KSampler, with a pipe for what is not linked."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaKSampler",
            display_name="Luna KSampler (Memory Optimized)",
            category="Luna/Sampling",
            description="ComfyUI's KSampler, which also takes a Luna pipe: whatever is not linked here "
            "comes from the pipe. Gives exactly what KSampler gives.",
            search_aliases=_ALIASES,
            inputs=[
                *sampling.number_inputs(),
                sampling.denoise_input(),
                *sampling.socket_inputs(),
                sampling.pipe_input(),
            ],
            outputs=[sampling.latent_output()],
            hidden=_HIDDEN,
        )

    @classmethod
    def execute(cls, luna_pipe: Any = None, **values: Any) -> io.NodeOutput:
        values = sampling.settled({**_UNLINKED, **values}, luna_pipe, cls.hidden)
        return io.NodeOutput(sampling.sample(values))


class LunaKSamplerAdvanced(io.ComfyNode):
    """KSamplerAdvanced, with a pipe for what is not linked."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaKSamplerAdvanced",
            display_name="Luna KSampler Advanced (Memory Optimized)",
            category="Luna/Sampling",
            description="ComfyUI's KSampler (Advanced), which runs a part of the steps, and also takes a "
            "Luna pipe: whatever is not linked here comes from the pipe.",
            search_aliases=[*_ALIASES, "ksampler advanced", "refiner", "start at step"],
            inputs=[
                _switch("add_noise", "enable", "Is noise added before the first step?"),
                *sampling.number_inputs("noise_seed"),
                _step("start_at_step", 0, "The first step that is run."),
                _step("end_at_step", 10000, "The step before which it ends."),
                _switch(
                    "return_with_leftover_noise",
                    "disable",
                    "Does what is left of the noise stay in?",
                ),
                *sampling.socket_inputs(),
                sampling.pipe_input(),
            ],
            outputs=[sampling.latent_output()],
            hidden=_HIDDEN,
        )

    @classmethod
    def execute(cls, luna_pipe: Any = None, **values: Any) -> io.NodeOutput:
        values = sampling.settled({**_UNLINKED, **values}, luna_pipe, cls.hidden)
        return io.NodeOutput(sampling.sample(values, "KSamplerAdvanced"))


class LunaKSamplerHeadless(io.ComfyNode):
    """KSampler with nothing but a pipe."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaKSamplerHeadless",
            display_name="Luna KSampler Headless (Pipe Only)",
            category="Luna/Sampling",
            description="ComfyUI's KSampler with everything from a Luna pipe: one link in, one link out.",
            search_aliases=[*_ALIASES, "pipe sampler"],
            inputs=[
                io_types.LunaPipe.Input("luna_pipe", tooltip="Everything that a sampler needs.")
            ],
            outputs=[sampling.latent_output()],
        )

    @classmethod
    def execute(cls, luna_pipe: Any) -> io.NodeOutput:
        pipe = read_pipe(luna_pipe)
        pipe.need(_NEEDED)
        values = {name: getattr(pipe, name) for name in _NEEDED}
        values |= {"latent_image": pipe.latent, "sampler_name": pipe.sampler}
        values["denoise"] = 1.0 if pipe.denoise is None else pipe.denoise
        return io.NodeOutput(sampling.sample(values))


class LunaKSamplerScaffold(io.ComfyNode):
    """KSampler with noise of one's own."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaKSamplerScaffold",
            display_name="Luna KSampler (Scaffold Test)",
            category="Luna/Sampling",
            description="ComfyUI's KSampler, with the noise itself as an input: the tensor of a noise "
            "scaffold is used as it is, in place of the noise that the seed gives.",
            search_aliases=[*_ALIASES, "custom noise", "noise scaffold"],
            inputs=[
                *sampling.number_inputs(),
                sampling.denoise_input(),
                *sampling.socket_inputs(),
                io.Latent.Input(
                    "noise_scaffold",
                    optional=True,
                    tooltip="The noise, in the shape of the latent. Not linked: the seed's noise.",
                ),
                sampling.pipe_input(),
            ],
            outputs=[sampling.latent_output()],
            hidden=_HIDDEN,
        )

    @classmethod
    def execute(
        cls, noise_scaffold: Any = None, luna_pipe: Any = None, **values: Any
    ) -> io.NodeOutput:
        values = sampling.settled({**_UNLINKED, **values}, luna_pipe, cls.hidden)
        if noise_scaffold is None:
            return io.NodeOutput(sampling.sample(values))
        return io.NodeOutput(sampling.sample_with_noise(values, noise_scaffold["samples"]))


_UNLINKED = dict.fromkeys(("model", "positive", "negative", "latent_image"))


def _switch(name: str, default: str, tooltip: str) -> Any:
    return io.Combo.Input(
        name, options=["enable", "disable"], default=default, tooltip=tooltip, **ADVANCED
    )


def _step(name: str, default: int, tooltip: str) -> Any:
    return io.Int.Input(name, default=default, min=0, max=10000, tooltip=tooltip, **ADVANCED)


NODES = [LunaKSampler, LunaKSamplerAdvanced, LunaKSamplerHeadless, LunaKSamplerScaffold]
