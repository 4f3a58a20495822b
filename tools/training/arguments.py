"""Command line options that the commands of a training share."""

from __future__ import annotations

from typing import Annotated

import typer

ConfigArg = Annotated[str, typer.Option(help="YAML file with the settings, or the name of a shipped one.")]
SplitArg = Annotated[str, typer.Option(help="Split to train on.")]
ValSplitArg = Annotated[str | None, typer.Option(help="Split to validate on. Default: validate, if the data has it.")]
SetArg = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting: key=value, such as training.epochs=5; may be repeated.")
]
RestartArg = Annotated[
    bool, typer.Option("--restart", help="Delete the files of the earlier training in the run folder, and start anew.")
]
