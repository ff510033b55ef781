"""Papers' figures into the gallery: small pictures in docs/gallery and the page docs/gallery.md."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).resolve().parent
WIDTH_PX = 640
COLORS = 96  # of a picture: line drawings need no more, and stay small

# Heading -> (figure of a paper, function that draws it, table it draws).
GALLERY: dict[str, list[tuple[str, str, str]]] = {
    "Data": [
        ("demo/tracks", "maps.draw_tracks", "resampled tracks"),
        ("demo/covariate", "cell_figures.draw_cells", "cell_values.covariate_cells"),
        ("demo/coverage", "coverage_figures.draw_report", "coverage_tables.coverage_tables"),
        ("demo/choice_set", "explanation_figures.draw_exemplar_decision", "exemplars.choice_set_table"),
    ],
    "How good": [
        ("demo/groups", "group_figures.draw_groups", "evaluation.evaluate"),
        ("demo/chain", "evaluation_figures.draw_chain", "chain.chain_rule"),
        ("demo/chain_stacked", "chain_figures.draw_stacked_chain", "chain.chain_rule"),
        ("demo/reliability", "evaluation_figures.draw_reliability", "calibration.reliability"),
        ("demo/ranks", "evaluation_figures.draw_rank_histogram", "ranks.rank_histogram"),
        ("demo/used_habitat", "evaluation_figures.draw_feature_shares", "used_habitat.feature_shares"),
        ("demo/bin_pairs", "pair_figures.draw_bin_pairs", "win_rates.win_rates"),
    ],
    "For whom": [
        (
            "demo/individuals",
            "individual_figures.draw_individual_differences",
            "individual_tables.individual_differences",
        ),
        ("demo/exemplars", "explanation_figures.draw_exemplars", "exemplars.exemplars"),
        ("demo/difference", "maps.draw_difference_map", "exemplars.difference_map_table"),
        ("demo/months", "individual_figures.draw_months", "individual_tables.month_table"),
        ("demo/stay_score", "individual_figures.draw_stay_against_score", "individual_tables.individual_table"),
        ("demo/stay_distribution", "individual_figures.draw_stay_distribution", "stay_shares.stay_distribution"),
    ],
    "What was learned": [
        ("demo/importance", "explanation_figures.draw_importance", "importance.permutation_importance"),
        ("demo/response_1", "explanation_figures.draw_response", "responses.response"),
        ("demo/surface", "explanation_figures.draw_surface", "surfaces.odds_surface"),
    ],
    "Training": [
        ("demo/training", "training_figures.draw_training_curves", "history of a run"),
        ("demo_grid/members", "member_figures.draw_member_curves", "history of a run"),
        ("demo_grid/hyperparameters", "grid_figures.draw_hyperparameters", "grid_tables.hyperparameter_table"),
        ("demo_grid/random_starts", "grid_figures.draw_random_starts", "grid_tables.random_starts_table"),
        ("demo/contrast_curve", "contrast_figures.draw_contrast_curve", "contrast_error.contrast_curve"),
        ("demo/contrast_spread", "contrast_figures.draw_contrast_spread", "contrast_error.contrast_spread"),
        ("demo/architecture", "architecture_figures.draw_architecture", "architecture.architecture_table"),
        ("power/power", "power_figures.draw_power", "power.power_table"),
    ],
}

# Drawn within another figure of the gallery, or like it: what draws it -> where it is seen.
WITHIN = {
    "maps.draw_choice_set": "demo/choice_set",
    "explanation_figures.draw_exemplar_map": "demo/difference",
    "coverage_figures.draw_shares": "demo/coverage",
    "coverage_figures.draw_share_map": "demo/coverage",
    "bin_figures.draw_bins": "demo/used_habitat",
}

HEAD = """# Gallery

Every figure is a function of a tidy table: `mimic.MODULE.draw_...(table, width_cm=8.0)`. These are of the demo, its grid
and a power study, at the widths of a column (8 cm) and a page (17 cm) of a journal, as `make whitepaper` draws them into
PDF, SVG and PNG with the data beside them; `make gallery` makes this page from it.
"""


def main() -> int:
    """Write the page and its pictures from the folder of a paper."""
    figures = Path(sys.argv[1]) / "figures"
    lines = [HEAD]
    for heading, entries in GALLERY.items():
        lines.append(f"## {heading}\n")
        for name, function, table in entries:
            picture = shrink(figures / f"{name}.png", DOCS / "gallery" / f"{name.replace('/', '_')}.png")
            lines.append(f"`{function}` of `{table}`\n" if "." in table else f"`{function}` of the {table}\n")
            lines.append(f"![{function.split('.')[1]}](gallery/{picture.name})\n")
    within = "; ".join(
        f"`{function}` (as in {name.split('/')[1].replace('_', ' ')})" for function, name in WITHIN.items()
    )
    lines.append(f"## Parts of these, and figures like them\n\n{within}.")
    (DOCS / "gallery.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


def shrink(source: Path, target: Path) -> Path:
    """Save a picture with few pixels and few colors, so that the page loads fast and the project stays small."""
    target.parent.mkdir(exist_ok=True)
    with Image.open(source) as picture:
        plain = picture.convert("RGB")
        scale = min(1.0, WIDTH_PX * (2 if plain.width > 1200 else 1) / plain.width)
        size = (round(plain.width * scale), round(plain.height * scale))
        plain.resize(size, Image.Resampling.LANCZOS).quantize(COLORS).save(target, optimize=True)
    return target


if __name__ == "__main__":
    sys.exit(main())
