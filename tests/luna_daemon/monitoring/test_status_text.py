from __future__ import annotations

import copy

from luna_collection.luna_daemon.monitoring.status_text import status_lines

SNAPSHOT = {
    "version": "0.1.0",
    "pid": 4711,
    "rss_bytes": 42 * 2**20,
    "uptime_s": 3725.0,
    "state": "running",
    "service_type": "full",
    "engine": "comfy",
    "requests": {
        "finished": 12,
        "failed": 1,
        "cancelled": 2,
        "waiting": 3,
        "cache_hit_rate": 0.25,
        "demotions": 0,
    },
    "devices": {
        "cuda:0": {
            "budget_bytes": 8 * 2**30,
            "reserved_bytes": 2**30,
            "waiting": 3,
            "workers": [
                {
                    "name": "cuda:0-0",
                    "state": "busy",
                    "rss_bytes": 2**29,
                    "deaths": 2,
                    "conditioning_cache": {"entries": 7, "nbytes": 2**20, "hits": 1, "misses": 7},
                    "models": [
                        {
                            "role": "clip",
                            "name": "text_encoders/clip_l.safetensors",
                            "precision": "fp16",
                            "nbytes": 2**28,
                            "workflows": ["a", "b"],
                        }
                    ],
                }
            ],
        }
    },
    "workflows": [
        {"workflow_id": "a", "session": 1, "model_type": "SDXL", "models": {"clip": "k", "vae": "v"}, "lost": False},
        {"workflow_id": "b\x1b[2J", "session": 2, "model_type": "SD1.5", "models": {"clip": "k"}, "lost": True},
    ],
    "sessions": [{"session": 1, "transport": "memfd"}],
}  # fmt: skip


def test_everything_that_matters_is_said():
    assert status_lines(SNAPSHOT) == [
        "Luna daemon 0.1.0: running, process 4711, up 1 h 2 min, engine comfy, service full, 42 MB",
        "Requests: 12 finished, 1 failed, 2 cancelled, 3 waiting",
        "Cache: 25% of texts from the cache. Demotions of shared memory: 0",
        "Device cuda:0: 1024 MB of 8192 MB taken, 3 waiting",
        "  Worker cuda:0-0: busy, 512 MB, died 2 times",
        "    Cached texts: 7, 1 MB",
        "    clip: text_encoders/clip_l.safetensors (fp16, 256 MB), used by 2 workflows",
        "Workflow a (SDXL) by memfd: clip, vae",
        "Workflow b?[2J (SD1.5) by connection lost: clip",
    ]


def test_a_daemon_that_has_done_nothing_yet():
    fresh = copy.deepcopy(SNAPSHOT)
    fresh["requests"]["cache_hit_rate"] = None
    fresh["workflows"] = []
    fresh["uptime_s"] = 61.0
    lines = status_lines(fresh)
    assert "up 1 min 1 s" in lines[0]
    assert lines[2].startswith("Cache: no text encoded yet")
    assert lines[-1] == "Workflows: none"
