"""A skeleton's weights: everything about them but their values.

ComfyUI and other packs ask weights for names, shapes and types, which is fine. Whoever computes with one
would get a tensor on `meta` from it, silently, and fail far away. So the first touch of a value says which
weight it was and what to do.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

import torch

from .errors import WeightsElsewhereError

# On a tensor that is a weight of a skeleton but of a class of its own (quantised): (owner, name).
MARK = "_luna_weight"

_METHODS = (
    "__hash__ __len__ dim element_size get_device is_complex is_contiguous is_floating_point "
    "is_inference is_signed ndimension nelement numel requires_grad_ size storage_offset stride type"
)
_ATTRIBUTES = (
    "dtype grad grad_fn is_cpu is_cuda is_leaf is_meta is_mps is_nested is_quantized is_sparse "
    "itemsize layout names nbytes ndim requires_grad shape"
)
_HARMLESS = {
    *(getattr(torch.Tensor, name) for name in _METHODS.split() if hasattr(torch.Tensor, name)),
    *(
        getattr(torch.Tensor, name).__get__
        for name in _ATTRIBUTES.split()
        if hasattr(getattr(torch.Tensor, name, None), "__get__")
    ),
    torch.Tensor.requires_grad.__set__,  # type: ignore[attr-defined]  # a descriptor
    torch.is_floating_point,
    torch.is_complex,
    torch.numel,
}
_DEVICE = torch.Tensor.device.__get__
_IS_META = torch.Tensor.is_meta.__get__  # type: ignore[attr-defined]  # a descriptor


class WeightOwner(Protocol):
    """What a weight knows of its model."""

    @property
    def title(self) -> str:
        """How messages call the model."""

    @property
    def nominal_device(self) -> torch.device:
        """Where the weights would be now if ComfyUI had loaded them."""

    def real_weight(self, name: str) -> torch.Tensor | None:
        """Return the weight itself where policy or circumstances have it in this process."""


class RemoteWeight(torch.nn.Parameter):
    """A weight in the daemon."""

    owner: WeightOwner
    name_in_model: str

    def __new__(cls, meta: torch.Tensor, owner: WeightOwner, name: str) -> RemoteWeight:
        """Make one that looks like `meta`."""
        with torch._C.DisableTorchFunctionSubclass():
            weight = torch.Tensor._make_subclass(cls, meta.detach(), False)
        weight.owner, weight.name_in_model = owner, name
        return weight

    def __init__(self, *_: Any) -> None:
        """Nothing is left to do."""

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Let descriptions through, and nothing else."""
        weight = args[0] if args and isinstance(args[0], cls) else _first_weight(args, kwargs)
        if weight is not None and func is torch.Tensor.detach:
            return cls(weight, weight.owner, weight.name_in_model)
        if weight is not None and func == _DEVICE:
            return weight.owner.nominal_device
        if weight is not None and func == _IS_META:
            return False  # or ComfyUI would put zeros in its place
        if weight is None or func in _HARMLESS:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        real = _with_real_weights((tuple(args), dict(kwargs or {})))
        return func(*real[0], **real[1])

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"<weight '{self.name_in_model}' of {self.owner.title}, in the daemon>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        real = self.owner.real_weight(self.name_in_model)
        return copy.deepcopy(real, memo) if real is not None else _refuse(self, "copied")

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        _refuse(self, "pickled")


def reference_of(tensor: torch.Tensor) -> tuple[WeightOwner, str] | None:
    """Return whose weight a tensor stands for, and its name; None for a tensor with values."""
    if isinstance(tensor, RemoteWeight):
        return tensor.owner, tensor.name_in_model
    mark: tuple[WeightOwner, str] | None = getattr(tensor, MARK, None)
    return mark


def replace_weights(root: torch.nn.Module, owner: WeightOwner) -> None:
    """Turn the weights of a module tree on `meta` into weights of `owner`. Tied ones stay tied."""
    made: dict[int, RemoteWeight] = {}
    for path, module in root.named_modules():
        for table in (module._parameters, module._buffers):
            for key, tensor in table.items():
                name = f"{path}.{key}" if path else key
                if tensor is None or not tensor.is_meta:
                    continue
                if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
                    setattr(tensor, MARK, (owner, name))
                    continue
                if id(tensor) not in made:
                    made[id(tensor)] = RemoteWeight(tensor, owner, name)
                table[key] = made[id(tensor)]


def _first_weight(args: Any, kwargs: Any) -> RemoteWeight | None:
    for item in (*args, *(kwargs or {}).values()):
        if isinstance(item, RemoteWeight):
            return item
        if isinstance(item, (list, tuple)):
            found = _first_weight(item, None)
            if found is not None:
                return found
    return None


def _with_real_weights(value: Any) -> Any:
    if isinstance(value, RemoteWeight):
        real = value.owner.real_weight(value.name_in_model)
        return real if real is not None else _refuse(value, "used")
    if type(value) in (list, tuple):
        return type(value)(_with_real_weights(item) for item in value)
    if type(value) is dict:
        return {key: _with_real_weights(item) for key, item in value.items()}
    return value


def _refuse(weight: RemoteWeight, what: str) -> NoReturn:
    raise WeightsElsewhereError(
        f"A node {what} the weight '{weight.name_in_model}' of {weight.owner.title}. "
        "The daemon holds the weights of this model; here are only their names and shapes."
    )
