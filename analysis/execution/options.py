"""The settings of `--config`, and the engine's own options that the workflow has to answer itself."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Protocol

from pydantic import Field

from analysis.plan.plan import Plan
from analysis.specs import Frozen
from sharpflat.errors import InputError

# Options of the engine with which it makes nothing.
ONLY_LOOKS = (
    *("dryrun", "lint", "list_rules", "list_target_rules", "summary", "detailed_summary", "dag", "rulegraph"),
    *("filegraph", "d3dag", "print_compilation", "unlock", "report", "archive", "generate_unit_tests", "containerize"),
    *("list_changes", "list_input_changes", "list_params_changes", "list_untracked", "list_conda_envs"),
)


class Options(Frozen):
    """The keys of `--config`.

    Attributes:
        profile: a file of `config_dir`.
        results: the folder that holds those of all profiles.
        archived: whether to redraw from the archive.
        config_dir: "" for the project's own.
        stages: what a cluster's jobs ask for.
        force: what to make again, though it is there: names, with commas or spaces between them.
    """

    profile: Any = "quick"
    results: str = "results"
    archived: bool = False
    config_dir: str = ""
    stages: Any = Field(default_factory=dict)
    force: str = ""


class EngineArguments(Protocol):
    """The engine's command line, as far as it is used here."""

    targets: Iterable[str]
    force: bool
    forceall: bool
    forcerun: Iterable[str]


def wanted_again(plan: Plan, results: str, force: str, arguments: EngineArguments) -> list[str]:
    """What to make again, though it is there, as names for `analysis.plan.part.again`.

    The engine's own --forceall, --force and --forcerun find no rule for what is there, so they are answered here.

    Raises:
        InputError: if --force comes without a target.
    """
    names = force.replace(",", " ").split()
    if arguments.forceall:
        names += ["data", "segments", "energies", "distances", "figures", "claims", "report"]
    forced = [word for word in arguments.forcerun or () if word != "all"]
    if arguments.force:
        if not arguments.targets:
            raise InputError("--force: says what to make again only with a target; or --config force=song-fig01")
        forced += arguments.targets
    for word in forced:
        file = os.path.relpath(word, results)
        names.append(file if file in plan.files else word)
    return names
