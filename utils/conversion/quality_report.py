"""How good a converted file is, as a table: a row for each element type, and the layers that lost most."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from .sidecars import Sidecar


@dataclass(frozen=True, slots=True)
class TypeQuality:
    """The layers of one element type.

    Attributes:
        type: The type.
        layers: How many there are.
        rmse: The middle of their errors: root mean square in parts of the source's.
        worst: The largest of them.
        cosine: The smallest cosine between a layer and its source.
    """

    type: str
    layers: int
    rmse: float
    worst: float
    cosine: float


def quality_of_types(sidecar: Sidecar) -> list[TypeQuality]:
    """Return the types of a converted file, most layers first; exact copies have no error."""
    groups: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for layer in sidecar.layers.values():
        groups[layer["type"]].append((layer.get("rmse", 0.0), layer.get("cosine", 1.0)))
    return [
        TypeQuality(
            kind,
            len(layers),
            sorted(error for error, _ in layers)[len(layers) // 2],
            max(error for error, _ in layers),
            min(cosine for _, cosine in layers),
        )
        for kind, layers in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]


def worst_layers(sidecar: Sidecar, count: int = 5) -> list[tuple[str, str, float]]:
    """Return name, type and error of the layers that lost most."""
    lossy = [
        (name, str(layer["type"]), float(layer["rmse"]))
        for name, layer in sidecar.layers.items()
        if layer.get("rmse")
    ]
    return sorted(lossy, key=lambda layer: -layer[2])[:count]
