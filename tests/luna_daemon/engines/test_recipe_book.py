"""The memory of recipes and their tensors: what is asked for, what is kept, what is refused."""

from __future__ import annotations

import msgspec
import pytest
import torch
from luna_collection.luna_daemon.engines.recipe_book import Ingredients, RecipeBook
from luna_collection.luna_daemon.errors import BadRequestError
from luna_collection.luna_daemon.protocol.work import Needed, Recipe
from luna_collection.luna_daemon.transport.digests import tensor_digest, tree_digest
from luna_collection.luna_daemon.transport.trees import dump_with

TENSOR = torch.arange(256.0)


def recipe(*tensors: torch.Tensor) -> Recipe:
    """Return a recipe that is made of these tensors, without them."""
    patches = [(1.0, ("plain", ("diff", (tensor,))), 1.0, None, None) for tensor in tensors]
    stages = dump_with([("patches", {"w": patches})], lambda t: {"b": tensor_digest(t)})
    return Recipe(digest=tree_digest(stages), stages=stages)


def send(sent, *tensors):
    blobs = {tensor_digest(tensor): number for number, tensor in enumerate(tensors)}
    return Recipe(digest=sent.digest, stages=sent.stages, blobs=blobs)


def test_what_is_missing_is_named():
    book, other = RecipeBook(2**20), TENSOR + 1
    sent = recipe(TENSOR, other)
    assert book.gather(Recipe(digest=sent.digest), ()) == Needed(recipe=True)
    assert book.gather(send(sent, other), (other,)) == Needed(blobs=(tensor_digest(TENSOR),))
    done = book.gather(send(sent, TENSOR), (TENSOR,))
    assert isinstance(done, Ingredients)
    assert torch.equal(done.blobs[tensor_digest(other)], other)


def test_tensors_are_kept_as_long_as_there_is_room():
    book = RecipeBook(2 * TENSOR.nbytes)
    tensors = [TENSOR + number for number in range(3)]
    for tensor in tensors:
        book.gather(send(recipe(tensor), tensor), (tensor,))
    assert book.blobs.nbytes == 2 * TENSOR.nbytes
    again = book.gather(Recipe(digest=recipe(tensors[0]).digest), ())
    assert again == Needed(blobs=(tensor_digest(tensors[0]),))


def test_what_comes_with_a_call_serves_it_even_when_there_is_no_room_to_keep_it():
    book, sent = RecipeBook(0), recipe(TENSOR)
    assert isinstance(book.gather(send(sent, TENSOR), (TENSOR,)), Ingredients)
    assert book.blobs.nbytes == 0


def test_a_wrong_name_is_refused():
    book, sent = RecipeBook(2**20), recipe(TENSOR)
    wrong = Recipe(digest=sent.digest, stages=sent.stages, blobs={"0" * 64: 0})
    with pytest.raises(BadRequestError, match="not the one that its digest names"):
        book.gather(wrong, (TENSOR,))
    with pytest.raises(BadRequestError, match="not the one that its digest names"):
        book.gather(Recipe(digest="0" * 64, stages=sent.stages), ())
    with pytest.raises(BadRequestError, match="did not come with it"):
        book.gather(send(sent, TENSOR), ())
    assert book.blobs.nbytes == 0


@pytest.mark.parametrize("raw", [b'{"z":1}', b'{"x":0}', b"[" * 100_000 + b"]" * 100_000])
def test_what_is_no_recipe_is_refused(raw):
    stages = msgspec.Raw(raw)
    with pytest.raises(BadRequestError):
        RecipeBook(2**20).gather(Recipe(digest=tree_digest(stages), stages=stages), ())
