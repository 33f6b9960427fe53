"""What the daemon answers by itself: the same work with the same models, and nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from luna_collection.luna_daemon.answer_cache import ENTRY_BYTES, AnswerCache, AnswerKey
from luna_collection.luna_daemon.protocol import work as w
from luna_collection.luna_daemon.protocol.segments import Segment, Slot
from luna_collection.luna_daemon.protocol.worker_messages import CacheState, JobDone, ModelSpec
from luna_collection.luna_daemon.workers.process import Reply

TEXT = w.EncodeText(texts=("a fox",))


def specs(**keys: str) -> dict[str, ModelSpec]:
    return {
        role: ModelSpec(key=key, role=role, path="/m", precision="fp32", nbytes=1)
        for role, key in (keys or {"clip_l": "k1"}).items()
    }


def key_of(cache: AnswerCache, work: Any = TEXT, **keys: str) -> AnswerKey:
    key = cache.key(specs(**keys), "SD1.5", work)
    assert key is not None
    return key


def reply(nbytes: int = 64, fill: int = 7, *, slot: Slot | None = None, **fields: Any) -> Reply:
    segment = Segment(dtype="uint8", shape=(nbytes,), order=(0,), nbytes=nbytes, slot=slot)
    done = JobDone(id=3, result=w.Conditioning(cond=0), segments=(segment,), **fields)
    payloads = () if slot else (memoryview(bytearray([fill]) * nbytes),)
    return Reply(done, payloads)


def test_an_answer_comes_back_byte_for_byte_with_all_that_was_said() -> None:
    cache = AnswerCache(2**20, 2**20)
    sent = reply(notes=("Text 1 is too long.",), cache_hit=False, compute_ms=3.5)
    cache.put(key_of(cache), sent)
    kept = cache.get(key_of(cache))
    assert kept is not None
    assert isinstance(sent.message, JobDone)
    assert (kept.result, kept.notes) == (sent.message.result, sent.message.notes)
    assert (kept.segments, kept.payloads) == (sent.message.segments, sent.payloads)


def test_what_was_never_answered_is_not_known() -> None:
    cache = AnswerCache(2**20, 2**20)
    assert cache.get(key_of(cache)) is None


@pytest.mark.parametrize(
    "other",
    [
        ({"clip_l": "k2"}, "SD1.5", TEXT),
        ({"clip_g": "k1"}, "SD1.5", TEXT),
        ({"clip_l": "k1", "clip_g": "k2"}, "SD1.5", TEXT),
        ({"clip_l": "k1"}, "SDXL", TEXT),
        ({"clip_l": "k1"}, "SD1.5", w.EncodeText(texts=("a fox",), clip_skip=1)),
        ({"clip_l": "k1"}, "SD1.5", w.EncodeText(texts=("A fox",))),
        ({"clip_l": "k1"}, "SD1.5", w.EncodeText(texts=("a fox", "a fox"))),
        ({"clip_l": "k1"}, "SD1.5", w.EncodeText(texts=("a", "fox"))),
    ],
    ids=[
        *("another model", "another role", "a further model", "another family"),
        *("clip skip", "another text", "a text more", "cut elsewhere"),
    ],
)
def test_an_answer_is_for_the_same_models_and_the_same_work_only(other: Any) -> None:
    cache = AnswerCache(2**20, 2**20)
    cache.put(key_of(cache), reply())
    keys, model_type, work = other
    key = cache.key(specs(**keys), model_type, work)
    assert key is not None
    assert cache.get(key) is None


def test_every_field_of_a_text_request_is_part_of_the_key() -> None:
    # A field that is added to the message one day must not be left out here.
    cache = AnswerCache(2**20, 2**20)
    changed = {"texts": ("another",), "clip_skip": 3}
    assert changed.keys() == {field.name for field in msgspec.structs.fields(w.EncodeText)}
    for name, value in changed.items():
        assert key_of(cache, msgspec.structs.replace(TEXT, **{name: value})) != key_of(cache), name


def test_the_order_in_which_roles_were_named_does_not_matter() -> None:
    cache = AnswerCache(2**20, 2**20)
    one = key_of(cache, clip_l="k1", clip_g="k2")
    assert one == key_of(cache, clip_g="k2", clip_l="k1")


@pytest.mark.parametrize(
    "work",
    [w.DecodeLatent(latent=0), w.EncodeImage(image=0), w.Echo(tensor=0)],
    ids=lambda work: type(work).__name__,
)
def test_work_on_tensors_is_always_done(work: Any) -> None:
    # Their bytes are not in the request's own fields.
    assert AnswerCache(2**20, 2**20).key(specs(), "SD1.5", work) is None


def test_without_room_nothing_is_kept() -> None:
    assert AnswerCache(0, 2**20).key(specs(), "SD1.5", TEXT) is None


def test_what_lies_in_shared_memory_is_not_kept() -> None:
    cache = AnswerCache(2**20, 2**20)
    cache.put(key_of(cache), reply(slot=Slot(arena=1, offset=0, generation=1)))
    assert (len(cache), cache.nbytes) == (0, 0)


def test_a_reply_of_another_kind_is_not_kept() -> None:
    cache = AnswerCache(2**20, 2**20)
    cache.put(key_of(cache), Reply(CacheState(id=1, entries=0, nbytes=0, hits=0, misses=0), ()))
    assert len(cache) == 0


def test_an_answer_that_is_too_large_is_left_to_the_workers() -> None:
    cache = AnswerCache(2**20, 10_000)
    cache.put(key_of(cache), reply(10_000))
    assert (cache.get(key_of(cache)), cache.nbytes) == (None, 0)


@pytest.mark.parametrize("long", ["texts", "notes"])
def test_long_texts_and_notes_count_as_well(long: str) -> None:
    cache = AnswerCache(2**20, 10_000)
    work = w.EncodeText(texts=("x" * 10_000,)) if long == "texts" else TEXT
    cache.put(key_of(cache, work), reply(notes=("x" * 10_000,) if long == "notes" else ()))
    assert len(cache) == 0


def test_the_least_recently_used_goes_first() -> None:
    cache = AnswerCache(3 * (ENTRY_BYTES + 1100), 2**20)
    works = [w.EncodeText(texts=(str(n),)) for n in range(4)]
    for n, work in enumerate(works[:3]):
        cache.put(key_of(cache, work), reply(1000, n))
    assert len(cache) == 3
    assert cache.get(key_of(cache, works[0])) is not None
    cache.put(key_of(cache, works[3]), reply(1000, 3))
    there = [cache.get(key_of(cache, work)) is not None for work in works]
    assert there == [True, False, True, True]


def test_the_bytes_never_exceed_the_bound_and_are_given_back() -> None:
    cache = AnswerCache(50_000, 20_000)
    for n in range(200):
        cache.put(key_of(cache, w.EncodeText(texts=(str(n),))), reply(100 * n))
        assert cache.nbytes <= 50_000
    assert 0 < len(cache) < 200
    assert cache.nbytes >= len(cache) * ENTRY_BYTES


def test_the_same_answer_twice_counts_once() -> None:
    cache = AnswerCache(2**20, 2**20)
    cache.put(key_of(cache), reply(1000, 1))
    once = cache.nbytes
    cache.put(key_of(cache), reply(1000, 2))
    kept = cache.get(key_of(cache))
    assert (cache.nbytes, len(cache)) == (once, 1)
    assert kept is not None
    assert kept.payloads[0][0] == 2
