"""Luna Sweep: run by run through combinations of values."""

from __future__ import annotations

import json

from comfy_api.latest import io, ui

from ...utils.errors import InputError
from ...utils.sweeps.combining import SweepMode, run_of
from ...utils.sweeps.parameters import parse_parameters
from ..schema import node_schema
from ..seed_inputs import index_input, still_seed_input

VALUES = 6
PARAMETERS = "cfg: 4..8:1\nsteps: 20, 30\n"


class LunaSweep(io.ComfyNode):
    """One combination of values for each run."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaSweep",
            display_name="Luna Sweep",
            category="Luna/Sweeps",
            description="Goes through the combinations of named values, one for each run: all of them, side by side, "
            "or in an order of chance. The index says which, so that a sweep can be stopped and go on, also "
            "over the API.",
            search_aliases=["xy plot", "grid", "parameter sweep", "loop values", "combinations"],
            inputs=[
                io.String.Input(
                    "parameters",
                    default=PARAMETERS,
                    multiline=True,
                    dynamic_prompts=False,
                    tooltip="A line for each: a name, a colon, and values with commas between them or a range such "
                    "as 4..8:0.5.",
                ),
                io.Combo.Input(
                    "mode",
                    options=[mode.value for mode in SweepMode],
                    default=SweepMode.COMBINATORIAL.value,
                    tooltip="combinatorial: every value with every other. cyclical: the first ones together, then the "
                    "second ones. random: combinations by chance, none twice before all were there.",
                ),
                index_input("The run's number, from 0. Behind the last comes the first again."),
                io.Int.Input(
                    "count",
                    default=0,
                    min=0,
                    max=10**9,
                    tooltip="How many runs there are. 0: as many as the mode has.",
                ),
                still_seed_input(),
            ],
            outputs=[
                *(
                    io.AnyType.Output(
                        f"value_{number}",
                        tooltip=f"The value of parameter {number}: a number, a truth value or a text.",
                    )
                    for number in range(1, VALUES + 1)
                ),
                io.String.Output(
                    "label", tooltip="All values with their names, for a file or a grid."
                ),
                io.String.Output("values", tooltip="The same as JSON."),
                io.Int.Output("current_index", tooltip="The run's number, from 0."),
                io.Int.Output("total", tooltip="How many runs there are."),
                io.Boolean.Output("complete", tooltip="This is the last run."),
            ],
        )

    @classmethod
    def execute(
        cls, parameters: str, mode: str, index: int, count: int, seed: int = 0
    ) -> io.NodeOutput:
        listed = parse_parameters(parameters)
        if len(listed) > VALUES:
            raise InputError(
                f"There are {len(listed)} parameters; the node has outputs for {VALUES}.",
                "Use a second node for the others.",
            )
        run = run_of(listed, SweepMode(mode), index, count, seed)
        values = [*run.values.values(), *[None] * (VALUES - len(listed))]
        told = f"{run.index + 1} of {run.total}: {run.label}"
        as_json = json.dumps(run.values, ensure_ascii=False)
        return io.NodeOutput(
            *values, run.label, as_json, run.index, run.total, run.complete, ui=ui.PreviewText(told)
        )


NODES = [LunaSweep]
