"""The verdicts as `claims.json` has them, in the papers' order, each at the figures that it is about."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, RootModel

from analysis.plan.yaml import validate
from sharpflat.errors import InputError

ELSEWHERE = "Elsewhere"  # where verdicts stand that belong to no figure; no id of a figure has a capital
CLASSES = {"holds": "holds", "does not hold": "fails"}  # of the style; any other verdict is open
SYMBOLS = {"holds": "✓", "fails": "✗", "open": "–"}  # of the map, so that it can be read without colours
KEY = [(name, style, SYMBOLS[style]) for name, style in [*CLASSES.items(), ("not measured", "open")]]


class Verdict(BaseModel):
    """A row of `claims.json`; nothing of it is reworded."""

    model_config = ConfigDict(frozen=True)

    claim: str
    says: str
    setting: str
    verdict: str
    measured: str
    threshold: str
    runs: str = ""

    @property
    def style(self) -> str:
        return CLASSES.get(self.verdict, "open")

    @property
    def symbol(self) -> str:
        return SYMBOLS[self.style]


class _Verdicts(RootModel[tuple[Verdict, ...]]):
    pass


@dataclass(frozen=True)
class Judged:
    """A claim with its verdicts by setting."""

    claim: str
    says: str
    threshold: str
    verdicts: list[Verdict]


@dataclass(frozen=True)
class Summary:
    """A map claim × setting: rows of a claim, its first figure, and cells with the verdict, if there is one, and the
    figure that shows it."""

    title: str
    settings: list[str]
    rows: list[tuple[Judged, str, list[tuple[Verdict, str] | None]]]


def read_verdicts(path: Path) -> list[Verdict]:
    """
    Raises:
        InputError: if the file is missing or no list of verdicts.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is no readable JSON ({error}); delete it and run again") from error
    return list(validate(content, _Verdicts, str(path)).root)


def by_claim(verdicts: Iterable[Verdict]) -> list[Judged]:
    """Verdicts of the same claim and threshold together, in their order."""
    found: dict[tuple[str, str, str], list[Verdict]] = {}
    for verdict in verdicts:
        found.setdefault((verdict.claim, verdict.says, verdict.threshold), []).append(verdict)
    return [Judged(*key, those) for key, those in found.items()]


def placed(
    verdicts: Iterable[Verdict], figures: Mapping[str, tuple[Sequence[str], set[str]]]
) -> dict[str, list[Verdict]]:
    """The verdicts at each figure.

    Args:
        verdicts: all.
        figures: by id, in order: the claims that are judged there, and its settings.

    Returns:
        By figure: those of its claims in its settings; `ELSEWHERE` has those that belong to none.
    """
    shown: dict[str, list[Verdict]] = {name: [] for name in (*figures, ELSEWHERE)}
    for verdict in verdicts:
        claimed = [name for name, (claims, _) in figures.items() if verdict.claim in claims]
        homes = [name for name in claimed if verdict.setting in figures[name][1]] or claimed[:1] or [ELSEWHERE]
        for name in homes:
            shown[name].append(verdict)
    return shown


def summarise(title: str, verdicts: Sequence[Verdict], shown: Mapping[str, Sequence[Verdict]]) -> Summary:
    """The map of these verdicts; each leads to the first figure that shows it."""
    settings = list(dict.fromkeys(v.setting for v in verdicts))
    home = {v: name for name, those in reversed(list(shown.items())) for v in those}
    rows = []
    for judged in by_claim(verdicts):
        own = {v.setting: v for v in judged.verdicts}
        rows.append(
            (judged, home[judged.verdicts[0]], [(own[s], home[own[s]]) if s in own else None for s in settings])
        )
    return Summary(title, settings, rows)


def answer(verdicts: Sequence[Verdict]) -> str:
    """How many hold, in a sentence."""
    if not verdicts:
        return "No claim is judged in this profile"
    count = Counter(verdict.style for verdict in verdicts)
    parts = [f"{count['holds']} of {len(verdicts)} verdicts hold"]
    if fails := count["fails"]:
        parts.append(f"{fails} {'does' if fails == 1 else 'do'} not")
    if unknown := count["open"]:
        parts.append(f"{unknown} {'was' if unknown == 1 else 'were'} not measured")
    return "; ".join(parts)
