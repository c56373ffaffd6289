"""A plainly named result has at most one record of what it was made from, and none while it is being made."""

from __future__ import annotations

import pytest

from analysis.records import recorded


def test_a_record_replaces_the_others_of_its_name(tmp_path):
    for name in ("fig-00000000", "fig-11111111", "fig-other-00000000", "other-00000000"):
        (tmp_path / f"{name}.json").write_text("old", encoding="utf-8")
    with recorded(["new"], [str(tmp_path / "fig-22222222.json")]):
        assert sorted(p.stem for p in tmp_path.iterdir()) == ["fig-other-00000000", "other-00000000"]
    assert (tmp_path / "fig-22222222.json").read_text(encoding="utf-8") == "new"


def test_what_fails_leaves_no_record(tmp_path):
    (tmp_path / "fig-00000000.json").write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError), recorded(["new"], [str(tmp_path / "fig-22222222.json")]):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
