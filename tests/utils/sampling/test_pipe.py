from __future__ import annotations

import pytest
from luna_collection.utils.errors import InputError
from luna_collection.utils.sampling.pipe import FIELDS, Pipe, read_pipe

VALUES = tuple(f"<{name}>" for name in FIELDS)


def test_the_older_tuples_are_read():
    pipe = read_pipe(VALUES)
    assert [getattr(pipe, name) for name in FIELDS] == list(VALUES)
    assert read_pipe(list(VALUES)) == pipe
    older = read_pipe(("m", "c", "v", "+", "-", 7, "euler", "karras"))
    assert (older.model, older.negative, older.seed, older.scheduler) == ("m", "-", 7, "karras")
    assert older.latent is None


def test_a_pipe_and_a_dict_are_read():
    pipe = Pipe(model="m", seed=0)
    assert read_pipe(pipe) is pipe
    assert read_pipe({"model": "m", "seed": 0, "something": 1}) == pipe


@pytest.mark.parametrize("value", [None, "x", (), (1,) * 9, 5])
def test_what_is_no_pipe_is_refused(value):
    with pytest.raises(InputError, match="no LUNA_PIPE"):
        read_pipe(value)


def test_what_a_pipe_lacks_is_listed():
    pipe = Pipe(model="m", seed=0, cfg=0.0)
    pipe.need(["model", "seed", "cfg"])
    with pytest.raises(InputError, match="no latent, steps"):
        pipe.need(["model", "latent", "steps"])
