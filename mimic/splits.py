"""Individuals into training and validation animals, and a check that no animal is on both sides."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mimic.schema import INDIVIDUAL, SPLIT, TRAIN, VALIDATION, examples, require_columns

__all__ = ["audit_split", "linked_individuals", "split_decisions", "split_individuals"]

_TAG = "tag"


def split_individuals(
    individuals: Sequence[str],
    *,
    validation_share: float | None = None,
    seed: int | None = None,
    validation: Sequence[str] | None = None,
    tags: Sequence[object] | None = None,
) -> dict[str, str]:
    """Individual -> "train" or "validation", in the order of the names.

    Parameters
    ----------
    individuals
        Names; repeats count once and the order is of no matter, so a column of decisions will do.
    validation_share
        Share of the individuals that validate, between 0 and 1. Their number is fixed:
        round(share x individuals), a half to the even number, at least 1 and at most all but one.
    seed
        Of the draw. The same names, share and seed give the same split.
    validation
        The individuals that validate, by name; then nothing is drawn.
    tags
        The tag of each entry of `individuals`, where known. Individuals that share a tag (a collar used again,
        or one animal under two names: the data cannot tell) are drawn together, to one side.

    Raises
    ------
    ValueError
        If there are fewer than two individuals, one has no name, the share is not between 0 and 1, or the
        names in `validation` are unknown, repeated, none or all of the individuals. If neither share and seed
        nor names are given.

    Example
    -------
    >>> split_individuals(["b", "a", "c", "a"], validation=["c"])
    {'a': 'train', 'b': 'train', 'c': 'validation'}
    """
    names = _names(individuals)
    if validation is None:
        chosen = _drawn(linked_individuals(names, individuals, tags), validation_share, seed)
    else:
        chosen = _listed(names, validation)
    return {name: VALIDATION if name in chosen else TRAIN for name in names}


def split_decisions(
    decisions: pd.DataFrame,
    *,
    validation_share: float | None = None,
    seed: int | None = None,
    validation: Sequence[str] | None = None,
) -> pd.DataFrame:
    """The decisions (or fixes) with the column `split`, audited; options as in `split_individuals`.

    Raises
    ------
    ValueError
        As `split_individuals` and `audit_split`.
    """
    require_columns(list(decisions.columns), [INDIVIDUAL], where="decisions")
    split = split_individuals(
        decisions[INDIVIDUAL].tolist(),
        validation_share=validation_share,
        seed=seed,
        validation=validation,
        tags=decisions[_TAG].tolist() if _TAG in decisions.columns else None,
    )
    result = decisions.assign(**{SPLIT: decisions[INDIVIDUAL].astype(str).map(split)})
    audit_split(result)
    return result


def audit_split(decisions: pd.DataFrame) -> pd.DataFrame:
    """One row an individual: individual, split, n_decisions and, where tags are known, tags; sorted by name.

    Parameters
    ----------
    decisions
        With `individual`, `split` and perhaps `tag` (missing tags are passed over).

    Raises
    ------
    ValueError
        If a split is missing, or an individual or a tag is on more than one side.
    """
    require_columns(list(decisions.columns), [INDIVIDUAL, SPLIT], where="decisions")
    missing = decisions[SPLIT].isna()
    if missing.any():
        raise ValueError(
            f"{missing.sum():,} decisions have no split (individuals {examples(decisions.loc[missing, INDIVIDUAL])}); "
            f"expected {TRAIN} or {VALIDATION} for each."
        )
    _check_one_side(decisions, INDIVIDUAL, "Split by individual: split_individuals does.")
    groups = decisions.groupby(INDIVIDUAL, sort=True, observed=True)
    audit = pd.DataFrame({SPLIT: groups[SPLIT].first(), "n_decisions": groups.size().astype("int64")})
    if _TAG in decisions.columns:
        _check_one_side(
            decisions,
            _TAG,
            "Name the animal that carried it (individual_of_tag, individual_pattern), or put the animals on one side.",
        )
        audit["tags"] = groups[_TAG].agg(lambda tags: ", ".join(sorted({str(t) for t in tags.dropna()})))
    return audit.reset_index()


def _names(individuals: Sequence[str]) -> list[str]:
    column = pd.Series(list(individuals), dtype=object)
    if column.isna().any():
        raise ValueError(f"{column.isna().sum():,} individuals have no name; drop or name them before splitting.")
    names = sorted(set(column.astype(str)))
    if len(names) < 2:
        raise ValueError(
            f"a split needs at least 2 individuals, one to train and one to validate; got {len(names)}"
            + (f" ({names[0]})." if names else ".")
        )
    return names


def linked_individuals(
    names: Sequence[str], individuals: Sequence[str], tags: Sequence[object] | None
) -> list[list[str]]:
    """The names in groups that are linked by shared tags; each by itself where tags are not known."""
    if tags is None:
        return [[name] for name in names]
    table = pd.DataFrame({INDIVIDUAL: list(individuals), _TAG: list(tags)}).dropna()
    code = pd.Categorical(table[INDIVIDUAL].astype(str), categories=list(names)).codes
    tag = pd.factorize(table[_TAG].astype(str))[0] + len(names)
    size = int(max(tag, default=len(names))) + 1
    links = coo_array((np.ones(len(code)), (code, tag)), shape=(size, size))
    group = connected_components(links, directed=False)[1][: len(names)]
    return [list(part) for _, part in pd.Series(list(names)).groupby(group, sort=False)]


def _drawn(groups: Sequence[Sequence[str]], validation_share: float | None, seed: int | None) -> set[str]:
    if validation_share is None or seed is None:
        raise ValueError("a split needs validation_share and seed, or the names of the individuals that validate.")
    if not 0 < validation_share < 1:
        raise ValueError(f"validation_share must lie between 0 and 1; got {validation_share}.")
    n_names = sum(len(group) for group in groups)
    if len(groups) < 2:
        raise ValueError(
            f"all {n_names} individuals are linked by shared tags, so none can validate apart from the others. "
            "Name the animals that carried them (individual_of_tag), or name the individuals that validate."
        )
    n_validation = min(max(round(validation_share * n_names), 1), n_names - 1)
    chosen: set[str] = set()
    for k in np.random.default_rng(seed).permutation(len(groups)):
        if len(chosen) + len(groups[k]) <= n_validation:
            chosen |= set(groups[k])
    return chosen or set(sorted(groups, key=len)[0])


def _listed(names: Sequence[str], validation: Sequence[str]) -> set[str]:
    if isinstance(validation, str):
        raise ValueError(
            f"validation must be a list of individuals; got the text {validation!r}. Write [{validation!r}]."
        )
    chosen = [str(name) for name in validation]
    unknown = [name for name in chosen if name not in names]
    if unknown:
        near = dict.fromkeys(hit for name in unknown for hit in difflib.get_close_matches(name, names, n=2))
        raise ValueError(
            f"validation names unknown individuals: {examples(unknown)}. "
            + (f"Nearest: {', '.join(near)}." if near else f"Known are {examples(names)}.")
        )
    if len(set(chosen)) < len(chosen):
        raise ValueError(
            f"validation names an individual twice: {examples([n for n in chosen if chosen.count(n) > 1])}."
        )
    if not 0 < len(chosen) < len(names):
        raise ValueError(
            f"validation must name at least one individual and leave one to train; got {len(chosen)} of {len(names)}."
        )
    return set(chosen)


def _check_one_side(decisions: pd.DataFrame, column: str, advice: str) -> None:
    sides = decisions.groupby(column, sort=True, observed=True)[SPLIT].nunique()
    both = sides.index[sides > 1]
    if len(both):
        plural = "s" if len(both) > 1 else ""
        raise ValueError(
            f"{len(both)} {column}{plural} {'are' if plural else 'is'} on more than one side of the split "
            f"({examples(list(both))}), so validation would not be on animals never seen. {advice}"
        )
