"""A plainly named result has at most one record of what it was made from, and none while it is being made; the record
knows the exact bytes of what was made."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.execution.records import check, is_made, recorded, remove_old_checkpoints
from analysis.plan.join import load_plan
from analysis.plan.plan import PlannedClaims, PlannedFigure
from analysis.specs.panels import FigureSpec
from sharpflat.errors import InputError

SPEC = FigureSpec(name="fig", module="m", caption="Größe", panels=())
FIGURE = PlannedFigure(spec=SPEC, table=False, fingerprint="f")
OTHER = PlannedClaims(claims=(), fingerprint="f")


def test_a_record_replaces_the_others_of_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "made-from"
    folder.mkdir()
    for name in ("fig-00000000", "fig-11111111", "fig-other-00000000", "other-00000000"):
        (folder / f"{name}.json").write_text("old", encoding="utf-8")
    with recorded([OTHER], [str(folder / "fig-22222222.json")], []):
        assert sorted(p.stem for p in folder.iterdir()) == ["fig-other-00000000", "other-00000000"]
    assert (folder / "fig-22222222.json").read_text(encoding="utf-8") == (
        '{"made_from":{"claims":[],"fingerprint":"f"},"sha256":{}}'
    )


def test_what_fails_leaves_no_record(tmp_path: Path) -> None:
    (tmp_path / "fig-00000000.json").write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError), recorded([OTHER], [str(tmp_path / "fig-22222222.json")], []):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_goes_once_its_segment_is_finished(tmp_path: Path) -> None:
    """As after a kill between two segments of a batch."""
    plan = load_plan("quick")
    finished, begun = list(plan.segments.values())[:2]
    for file in (*finished.files, begun.files[0], *(f"checkpoints/{s.id}.safetensors" for s in (finished, begun))):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert len(begun.files) > 1
    remove_old_checkpoints(plan, tmp_path)
    assert [path.stem for path in (tmp_path / "checkpoints").iterdir()] == [begun.id]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """With the figure, made together with another one."""
    files = [tmp_path / file for file in (*FIGURE.files, "figures/fig-other.pdf")]
    records = [tmp_path / FIGURE.record, tmp_path / "made-from/fig-other-00000000.json"]
    with recorded([FIGURE, OTHER], list(map(str, records)), list(map(str, files))):
        (tmp_path / "figures").mkdir()
        for path in files:
            path.write_text(path.name, encoding="utf-8")
    return tmp_path


def test_what_was_recorded_is_made(results: Path) -> None:
    assert is_made(FIGURE, results)
    check(results / FIGURE.record)
    other = PlannedFigure(spec=SPEC.model_copy(update={"caption": "Masse"}), table=False, fingerprint="f")
    assert not is_made(other, results)
    (results / FIGURE.record).rename(results / other.record)
    assert not is_made(other, results), "a record under another's name"


@pytest.mark.parametrize("file", FIGURE.files)
def test_every_flipped_bit_of_a_file_is_seen(results: Path, file: str) -> None:
    path = results / file
    content = path.read_bytes()
    for place in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        assert not is_made(FIGURE, results)
        with pytest.raises(
            InputError, match=f"{file}: has SHA-256 [0-9a-f]*, which differs from its record, .*; run again"
        ):
            check(results / FIGURE.record)
    path.unlink()
    assert not is_made(FIGURE, results)
    with pytest.raises(InputError, match=rf"{file}: cannot be read \(No such file or directory\); run again"):
        check(results / FIGURE.record)


def test_every_flipped_bit_of_a_record_is_seen(results: Path) -> None:
    path = results / FIGURE.record
    content = path.read_bytes()
    for place in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        assert not is_made(FIGURE, results)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"sha256":[]}', "null", "\xff"])
def test_a_record_that_is_none_is_told(results: Path, content: str) -> None:
    (results / FIGURE.record).write_bytes(content.encode("latin-1"))
    assert not is_made(FIGURE, results)
    with pytest.raises(InputError, match=r"fig-[0-9a-f]{8}\.json: is not a readable record \("):
        check(results / FIGURE.record)
