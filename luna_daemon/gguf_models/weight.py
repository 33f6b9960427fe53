"""A weight of a GGUF file that looks like a plain tensor: its bytes stay as they are in the file.

It has the shape and the element type that the model wants. Moving it moves the bytes, copying it copies
nothing, and whatever computes with it gets its values, made at that moment and thrown away behind it. So ComfyUI's
layers, patchers and LoRA code need to know nothing of it, whatever their release.

Nobody may write into one: the bytes are usually a mapped file's. LoRAs are steps that are done to the
values when these are made (patching.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from ...utils.quantization.dequantize import PLAIN_TYPES, dequantize
from ...utils.quantization.ggml_types import ggml_type

aten = torch.ops.aten
# What is done to the values once they are made: values in the weight's element type, and back.
Step = Callable[[Tensor], Tensor]


class GgufWeight(Tensor):
    """A weight that is stored quantised.

    Attributes:
        raw: uint8 [bytes], in order the bytes as they lie in the file; on the weight's device.
        kind: The element type of the file, such as "Q4_K".
        steps: What is done to the values, in this order.
    """

    raw: Tensor
    kind: str
    steps: tuple[Step, ...]

    # Results of functions are plain tensors.
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(  # noqa: PLR0913  (what a weight is made of)
        cls: type[GgufWeight],
        raw: Tensor,
        kind: str,
        shape: Sequence[int],
        dtype: torch.dtype = torch.float32,
        steps: tuple[Step, ...] = (),
    ) -> GgufWeight:
        """Make a weight of bytes; `dtype` is what its values are rounded to."""
        made: GgufWeight = Tensor._make_wrapper_subclass(
            cls, tuple(shape), dtype=dtype, device=raw.device
        )
        made.raw, made.kind, made.steps = raw, kind, steps
        return made

    def values(self) -> Tensor:
        """Return the values, a new tensor of this weight's shape and element type on its device."""
        values = dequantize(self.raw, self.kind, self.shape, self.dtype)
        for step in self.steps:
            values = step(values)
        return values

    def rows(self, index: Tensor) -> Tensor:
        """Return values [*index.shape, columns] of some rows of a matrix, without making the others."""
        if self.dim() != 2 or self.steps or self.shape[1] % ggml_type(self.kind).block:
            return self.values()[index]
        rows = self.raw.view(self.shape[0], -1)[index.reshape(-1)]
        wanted = dequantize(rows, self.kind, (len(rows), self.shape[1]), self.dtype)
        return wanted.view(*index.shape, self.shape[1])

    def for_layer(self, dtype: torch.dtype) -> GgufWeight:
        """Return the weight for a layer with weights of this element type.

        Where that has one byte (ComfyUI's options for fp8), values stay float32 until the layer casts them:
        rounding them twice saves no memory here.
        """
        return self.changed(dtype=dtype if dtype.itemsize > 1 else torch.float32)

    def changed(
        self,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        steps: tuple[Step, ...] | None = None,
        non_blocking: bool = False,
    ) -> GgufWeight:
        """Return the same weight with another element type, elsewhere, or with other steps."""
        raw = self.raw if device is None else self.raw.to(device, non_blocking=non_blocking)
        return GgufWeight(
            raw,
            self.kind,
            self.shape,
            self.dtype if dtype is None else dtype,
            self.steps if steps is None else steps,
        )

    def to(self, *args: Any, **options: Any) -> Tensor:
        """Move the bytes; where an element type is asked for by name, return the values in it.

        Who names a type is about to compute with the values, or to change a copy of them.
        """
        options.pop(
            "copy", None
        )  # what is returned never shares memory that somebody may write into
        if sum(isinstance(argument, bool) for argument in args) > 1:
            args = args[:-1]  # the same, by its place
        device, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **options)
        moved = self.changed(device=device, non_blocking=non_blocking)
        return moved if dtype is None else moved.values().to(dtype)

    @property
    def nbytes(self) -> int:  # type: ignore[override]
        """Bytes in memory, which ComfyUI counts with."""
        return int(self.raw.nbytes)

    def data_ptr(self) -> NoReturn:
        """There are no values in memory that somebody could read there.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            f"A weight is quantised ({self.kind}, from a GGUF file) and has no values in memory that could be "
            "saved or sent as they are. Load the model from a safetensors file for that."
        )

    def storage(self) -> NoReturn:
        """As `data_ptr`, for those who ask it first."""
        self.data_ptr()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copy = self.changed()
        if isinstance(self, torch.nn.Parameter):
            return torch.nn.Parameter(copy, requires_grad=False)
        return copy

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        self.data_ptr()

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"GgufWeight({self.kind}, {tuple(self.shape)}, {self.dtype}, {self.device})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Do what keeps the bytes; for all else make the values and let torch do it with them."""
        named = {**_named(func, args), **(kwargs or {})}
        if _is_seen_from_inference_mode(func, named):
            # torch takes the result for a view of this weight, so it must not be of another kind.
            with torch.inference_mode(False), torch.no_grad():
                return _done(func, args, kwargs or {}, named)
        return _done(func, args, kwargs or {}, named)


def _done(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], named: dict[str, Any]) -> Any:
    handler = _HANDLERS.get(func.overloadpacket)
    if handler is not None:
        return handler(named)
    for argument in func._schema.arguments:
        is_written = argument.alias_info is not None and argument.alias_info.is_write
        if is_written and isinstance(named.get(argument.name), GgufWeight):
            _refuse_writing(str(func))
    return func(*_with_values(args), **_with_values(kwargs))


def _is_seen_from_inference_mode(func: Any, named: dict[str, Any]) -> bool:
    """Does inference mode look at a weight that was made outside of it?"""
    weight = named.get("self")
    return (
        torch.is_inference_mode_enabled()
        and isinstance(weight, GgufWeight)
        and not weight.is_inference()
        and any(result.alias_info is not None for result in func._schema.returns)
    )


def in_values(tensor: Any) -> Any:
    """Return a tensor's values: the tensor itself if it is a plain one."""
    return tensor.values() if isinstance(tensor, GgufWeight) else tensor


def weight_of(raw: Tensor, kind: str, shape: Sequence[int]) -> Tensor:
    """Return bytes as torch's own type where it has one, sharing their memory, else as a GgufWeight.

    A GgufWeight starts out as float32, in which no value is rounded.
    """
    dtype = PLAIN_TYPES.get(kind)
    if dtype is None or raw.storage_offset() % dtype.itemsize:
        return GgufWeight(raw, kind, shape)
    return raw.view(dtype).view(tuple(shape))


def as_weight(tensor: Tensor, dtype: torch.dtype) -> GgufWeight | None:
    """Return a plain tensor as a weight whose values have another type; None for types GGUF has not."""
    kinds = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
    if tensor.dtype not in kinds or not tensor.is_contiguous():
        return None
    return GgufWeight(tensor.view(-1).view(torch.uint8), kinds[tensor.dtype], tensor.shape, dtype)


def _named(func: Any, args: tuple[Any, ...]) -> dict[str, Any]:
    return {
        argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)
    }


def _with_values(tree: Any) -> Any:
    if isinstance(tree, GgufWeight):
        return tree.values()
    if isinstance(tree, (list, tuple)):
        return type(tree)(_with_values(item) for item in tree)
    if isinstance(tree, dict):
        return {key: _with_values(item) for key, item in tree.items()}
    return tree


def _refuse_writing(what: str) -> NoReturn:
    raise TypeError(
        f"'{what}' would write into a weight that is quantised (from a GGUF file); such a weight is "
        "replaced, never changed. A node that edits weights in place needs the model as a safetensors file."
    )


def _same(named: dict[str, Any]) -> Any:
    return named["self"].changed()


def _moved(named: dict[str, Any]) -> Any:
    weight, dtype, device = named["self"], named.get("dtype"), named.get("device")
    if isinstance(named.get("other"), Tensor):  # to(like another one)
        dtype, device = named["other"].dtype, named["other"].device
    moved = weight.changed(device=device, non_blocking=bool(named.get("non_blocking")))
    if dtype is None or dtype == weight.dtype:
        return moved
    return moved.values().to(dtype)


def _written(named: dict[str, Any]) -> Any:
    target, source = named["self"], named["src"]
    if not isinstance(target, GgufWeight):
        moved = source.changed(device=target.device, non_blocking=bool(named.get("non_blocking")))
        return target.copy_(moved.values())
    if isinstance(source, GgufWeight) and source.raw is target.raw and source.steps == target.steps:
        return target  # an older ComfyUI loads what is in place already
    _refuse_writing("copy_")


def _looked_up(named: dict[str, Any]) -> Any:
    weight = named["weight"]
    if not isinstance(weight, GgufWeight):  # the index is one, and no numbers can be read from it
        return aten.embedding(weight, named["indices"].values())
    return weight.rows(named["indices"])


def _empty(named: dict[str, Any]) -> Tensor:
    like = named["self"]
    dtype, device = named.get("dtype"), named.get("device")
    return torch.empty(
        like.shape,
        dtype=like.dtype if dtype is None else dtype,
        device=like.device if device is None else device,
    )


# Not here: whatever needs values. torch then gets plain tensors.
_HANDLERS: dict[Any, Callable[[dict[str, Any]], Any]] = {
    aten.detach: _same,
    aten.alias: _same,
    aten.clone: _same,
    aten.contiguous: _same,
    aten._to_copy: _moved,
    aten.to: _moved,
    aten.copy_: _written,
    aten.embedding: _looked_up,
    aten.empty_like: _empty,
    aten.is_pinned: lambda named: False,
    # Modules that are moved replace their weights.
    aten._has_compatible_shallow_copy_type: lambda named: False,
}
