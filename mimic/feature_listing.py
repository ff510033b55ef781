"""Sources and features into the table that `mimic features` prints: name, role, unit, what it is, how it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mimic.bin_sections import BinsConfig
from mimic.bins import bin_features
from mimic.configuration import Configuration
from mimic.derived import KINDS
from mimic.derived_sources import DISTANCES
from mimic.feature_definition import Definition
from mimic.features import LIBRARY, FeatureSpec, format_formula, product_role, product_unit, transformed_unit
from mimic.individual_features import column_definition
from mimic.schema import Role
from mimic.textable import align

__all__ = ["Listed", "format_listing", "list_features"]


_BIN_FORMULAS = {
    "bin_mid": "(low edge + high edge) / 2",
    "bin_width": "high edge - low edge",
    "bin_limit": "largest value of the limit around the origin",
    "log_bin_mid": "ln(middle of the bin)",
    "is_bottom": "1 if high edge >= limit, else 0",
    "same_bin": "1 if bin = bin of the step before, else 0",
    "bin_change": "bin - bin of the step before; 0 if unknown",
    "bin_distance": "|bin_change|",
    "previous_bin_known": "0 after a gap, else 1",
}


@dataclass(frozen=True)
class Listed:
    """One line of the table.

    Parameters
    ----------
    origin
        Where it comes from: "mimic", or the section of the experiment.
    unit
        "?" where only the data will tell.
    known
        The feature that is 1 where this one is known, "" where it always is or 0 stands for nothing else.
    """

    name: str
    role: Role
    unit: str
    what: str
    formula: str
    origin: str
    known: str = ""


def list_features(configuration: Configuration | None = None) -> list[Listed]:
    """The sources of mimic, and those and the features that an experiment defines, below them in its order."""
    found = [_listed(definition, "mimic", {}) for definition in LIBRARY.values()]
    if configuration is None:
        return found
    if configuration.table is not None:
        found = []
    units = _units(configuration)
    own = [_of_covariate(name, unit, "covariates") for name, unit in units.items()]
    if configuration.bins is not None:  # the same for all bins are the covariates, and what else there is of cells
        found = [listed for listed in found if listed.role == "decision"]
        own = [
            *_of_bins(configuration.bins),
            *(
                Listed(name, "decision", unit, f"{name} at the origin", f"{name}(origin, time)", "covariates")
                for name, unit in units.items()
            ),
        ]
    own += [_of_covariate(name, "1", "areas") for name in configuration.areas]
    keep = configuration.tracks.keep if configuration.tracks else []
    own += [_listed(column_definition(name), "tracks.keep", {}) for name in keep]
    places = {f"{name}_" for name in configuration.places}
    for definition in configuration.definitions.values():
        section = "places" if any(definition.name.startswith(prefix) for prefix in places) else "vectors"
        own.append(_listed(definition, section, units))
    table = configuration.table.roles if configuration.table is not None else {}
    own += [
        Listed(name, info.role, "?", "feature of the table", f"column {name}", "table") for name, info in table.items()
    ]
    known = {listed.name: listed for listed in [*found, *own]}
    for spec in configuration.declared_features.values():
        own.append(_of_spec(spec, known, units))
    return [*found, *own]


def format_listing(features: list[Listed]) -> str:
    """The table as aligned text, an empty line before each section."""
    header = ("name", "role", "unit", "what", "formula")
    lines = [header, *((f.name, f.role, f.unit, f.what, f.formula) for f in features)]
    text = align(lines, set(range(len(header))))
    found = [text[0]]
    for line, feature, before in zip(text[1:], features, [None, *features], strict=False):
        if before is None or feature.origin != before.origin:
            found += ["", f"{feature.origin}:"]
        found.append(line)
    with_known = [f for f in features if f.known]
    if with_known:
        found += ["", "0 where unknown, so list the indicator beside it:"]
        found += [f"  {f.name}: {f.known}" for f in with_known]
    return "\n".join(found)


def _listed(definition: Definition, origin: str, units: Mapping[str, str]) -> Listed:
    unit = units.get(definition.unit_of, "?") if definition.unit_of else definition.unit
    return Listed(
        definition.name, definition.role, unit, definition.description, definition.formula, origin, definition.known
    )


def _units(configuration: Configuration) -> dict[str, str]:
    """Covariate -> its unit, of derived ones as it follows from those they are of."""
    units: dict[str, str] = {}
    for name, section in configuration.covariates.items():
        unit = section.unit
        if unit is None and section.derive in DISTANCES:
            unit = "km"
        elif unit is None and section.derive is not None and "?" not in (of := [units[one] for one in section.inputs]):
            unit = KINDS[section.derive].unit(of, section.options)
        units[name] = unit or "?"
    return units


def _of_bins(section: BinsConfig) -> list[Listed]:
    """What bins bring by themselves."""
    formulas = {section.bins.named(name): formula for name, formula in _BIN_FORMULAS.items()} | _BIN_FORMULAS
    known = dict.fromkeys(("same_bin", "bin_change", "bin_distance"), "previous_bin_known")
    found = [
        Listed(name, info.role, info.unit, info.description, formulas[name], "bins", known.get(name, ""))
        for name, info in bin_features(section.bins, is_limited=section.limit is not None).items()
    ]
    for name, field in section.at_bin.items():
        unit = field.unit or "?"
        found.append(Listed(name, "choice", unit, f"{name} of the bin", f"{name}(origin, time, middle)", "bins"))
        what = f"{name} of the bin less that at the first edge"
        found.append(Listed(f"{name}_minus_first", "choice", unit, what, f"{name} - {name} at the first edge", "bins"))
    return found


def _of_covariate(name: str, unit: str, origin: str) -> Listed:
    return Listed(name, "choice", unit, f"{name} at the choice", f"{name}(choice, time)", origin)


def _of_spec(spec: FeatureSpec, known: Mapping[str, Listed], units: Mapping[str, str]) -> Listed:
    role, unit, what = _described(spec, known, units)
    indicator = spec.definition.known if spec.definition is not None else ""
    return Listed(spec.name, role, unit, what, format_formula(spec), "features", indicator)


def _described(spec: FeatureSpec, known: Mapping[str, Listed], units: Mapping[str, str]) -> tuple[Role, str, str]:
    if spec.definition is not None:
        base = _listed(spec.definition, "", units)
    else:
        base = known.get(spec.source) or _listed(column_definition(spec.source), "", {})
    role: Role = "pair" if spec.minus_origin else base.role
    unit = transformed_unit(spec, base.unit)
    what = f"{spec.source} at the choice minus at the origin" if spec.minus_origin else base.what
    if spec.times is None:
        return role, unit, what
    other_role, other_unit, other = _described(spec.times, known, units)
    return product_role(role, other_role), product_unit(unit, other_unit), f"{what}, times {other}"
