"""The settings of `--config`, and options of the engine that the workflow must handle itself."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Protocol

from pydantic import Field

from analysis.plan.plan import Plan
from analysis.specs import Frozen
from sharpflat.errors import InputError

# Options with which the engine makes nothing.
ONLY_LOOKS = (
    *("dryrun", "lint", "list_rules", "list_target_rules", "summary", "detailed_summary", "dag", "rulegraph"),
    *("filegraph", "d3dag", "print_compilation", "unlock", "report", "archive", "generate_unit_tests", "containerize"),
    *("list_changes", "list_input_changes", "list_params_changes", "list_untracked", "list_conda_envs"),
)


class Options(Frozen):
    """The keys of `--config`.

    Attributes:
        profile: the name of a file in `config_dir`.
        results: the folder with the results of all profiles.
        archived: whether to redraw from the archive.
        config_dir: the configuration folder; "" for the project's own.
        stages: the resources that a cluster's jobs request.
        force: names of what to make again although it exists, separated by commas or spaces.
    """

    profile: Any = "quick"
    results: str = "results"
    archived: bool = False
    config_dir: str = ""
    stages: Any = Field(default_factory=dict)
    force: str = ""


class EngineArguments(Protocol):
    """The part of the engine's command line that is used here."""

    targets: Iterable[str]
    force: bool
    forceall: bool
    forcerun: Iterable[str]


def wanted_again(plan: Plan, results: str, force: str, arguments: EngineArguments) -> list[str]:
    """Names of what to make again although it exists, for `analysis.plan.part.again`.

    The engine's own --forceall, --force and --forcerun find no rule for existing files, so they are handled here.

    Raises:
        InputError: --force is given without a target.
    """
    names = force.replace(",", " ").split()
    if arguments.forceall:
        names += ["data", "segments", "energies", "distances", "figures", "claims", "report"]
    forced = [word for word in arguments.forcerun or () if word != "all"]
    if arguments.force:
        if not arguments.targets:
            raise InputError("--force needs a target to make again; you can also use --config force=song-fig01")
        forced += arguments.targets
    for word in forced:
        file = os.path.relpath(word, results)
        names.append(file if file in plan.files else word)
    return names
