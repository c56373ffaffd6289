"""Write the verdicts of a profile into docs/results.md, from the claims that its archive gives:

    make figures PROFILE=quick && python docs/results.py quick

A test compares the hash that the page notes with the one that the archive records of these claims.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = Path(__file__).with_name("results.md")


def table(claims: bytes) -> str:
    """The verdicts as Markdown: a heading for each claim with when it holds, a row for each setting."""
    lines, claim = [f"claims.json: `{hashlib.sha256(claims).hexdigest()}`"], None
    for row in json.loads(claims):
        if row["claim"] != claim:
            claim = row["claim"]
            lines += ["", f"**{claim}**: {row['says']}. Holds if: {row['threshold']}.", ""]
            lines += ["| setting | verdict | measured |", "| --- | --- | --- |"]
        verdict = row["verdict"] if row["verdict"] == "holds" else f"**{row['verdict']}**"
        lines.append(f"| {row['setting']} | {verdict} | {row['measured'].replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def main(profile: str) -> None:
    made = table((ROOT / "results" / "redrawn" / profile / "claims.json").read_bytes())
    begin, end = f"<!-- verdicts of {profile} -->", f"<!-- end of {profile} -->"
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(
        re.sub(f"{begin}.*{end}", lambda _: f"{begin}\n{made}\n\n{end}", page, flags=re.DOTALL), encoding="utf-8"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile")
    main(parser.parse_args().profile)
