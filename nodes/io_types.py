"""The socket types of ComfyUI's nodes that are ours or that core does not name."""

from __future__ import annotations

from comfy_api.latest import io

# {"image_proj": …, "ip_adapter": …, "path": str, "is_sdxl": bool}; also used by IP-Adapter packs.
IpAdapter = io.Custom("IPADAPTER")
# A description of a language model, which whoever needs it loads:
# {"type", "model_path", "model_name", "mmproj_path", "use_daemon", "loaded"}.
Llm = io.Custom("LLM")
# [(file, model strength, clip strength), …]; also used by Efficiency, Comfyroll, Easy-Use and others.
LoraStack = io.Custom("LORA_STACK")
# What a run is made of: model, prompts, latent and the sampler's settings.
LunaPipe = io.Custom("LUNA_PIPE")
# The parameters of a picture, as a dict: what an image saver writes into it.
Metadata = io.Custom("METADATA")
# {"type": "clip_vision" or "qwen3_vision", "embedding": tensor, …}
LunaVisionEmbed = io.Custom("LUNA_VISION_EMBED")
