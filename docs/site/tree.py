"""Draw a setting's segments as they are planned: `python -m docs.site.tree` writes docs/images/tree.svg."""

from __future__ import annotations

from html import escape
from pathlib import Path

from analysis.plan.join import load_plan
from analysis.plan.plan import Plan

IMAGE = Path(__file__).parents[1] / "images" / "tree.svg"
PROFILE, SETTING = "quick", "mlp"
LEFT, WIDTH, ROW, BASE = 16, 640, 28, 30
COLORS = {"dom": "#c0392b", "bulk": "#2471a3"}


def lines(plan: Plan, setting: str) -> list[tuple[str, str, int, int, int | None]]:
    """Rows of the drawing, children below their parents: id, label, first and last step, and the parent's row.

    Of a family of seeds the first is drawn; its label counts the others.
    """
    chosen = {path[-1]: name for (where, name), path in plan.runs.items() if where == setting}
    labels = {one: name for one, name in chosen.items()}
    for (where, name), family in plan.families.items():
        if where == setting:
            labels[family[0].path[-1]] = f"{name} (× {len(family)} seeds)"
    length, rows = plan.lengths(), []

    def add(parent: str | None, begin: int, above: int | None) -> None:
        for one, segment in plan.segments.items():
            if one in labels and segment.spec.parent == parent:
                rows.append((one, labels[one], begin, begin + length[one], above))
                add(one, begin + length[one], len(rows) - 1)

    add(None, 0, None)
    return rows


def draw() -> str:
    """The drawing as SVG."""
    rows = lines(load_plan(PROFILE), SETTING)
    scale = WIDTH / max(end for *_, end, _ in rows)
    height = BASE + ROW * len(rows) + 36
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + 2 * LEFT + 160} {height}" '
        'font-family="sans-serif" font-size="15">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    place = {}
    for row, (one, label, begin, end, above) in enumerate(rows):
        x, right, y = LEFT + begin * scale, LEFT + end * scale, BASE + ROW * row
        rule = one.partition(".")[2].partition("-")[0]
        place[row] = y
        if above is not None:
            parts.append(
                f'<path d="M{x:.1f} {place[above]}V{y}" stroke="#555" stroke-width="1.5" stroke-dasharray="3 3"/>'
            )
        color = COLORS.get(rule, "#222")
        parts.append(f'<path d="M{x:.1f} {y}H{right:.1f}" stroke="{color}" stroke-width="4"/>')
        parts.append(f'<circle cx="{right:.1f}" cy="{y}" r="4" fill="{color}"/>')
        parts.append(f'<text x="{right + 9:.1f}" y="{y + 5}" fill="#222">{escape(label)}</text>')
    bottom = BASE + ROW * len(rows)
    for step in range(0, int(WIDTH / scale) + 1, 1000):
        x = LEFT + step * scale
        parts.insert(2, f'<path d="M{x:.1f} 12V{bottom - 8}" stroke="#ddd"/>')  # behind the segments
        parts.append(f'<text x="{x:.1f}" y="{bottom + 10}" text-anchor="middle" fill="#555">{step:,}</text>')
    parts.append(f'<text x="{LEFT + WIDTH / 2}" y="{bottom + 30}" text-anchor="middle" fill="#555">step</text></svg>')
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    IMAGE.write_text(draw(), encoding="utf-8")
