"""Choice sets, or a long table of choices, into a fitted conditional logit by `fit` and `predict_proba`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from mimic.conditional_logit import ConditionalLogit, fit_conditional_logit
from mimic.contrasts import Weighting, decision_weights
from mimic.formula import Coding, Formula, parse_formula
from mimic.probability import grouped_log_softmax, selected_log_probability, weighted_mean
from mimic.schema import CHOICE, DECISION, INDIVIDUAL, SELECTED, ChoiceSets, examples, require_columns
from mimic.tables import from_table

__all__ = ["ConditionalLogitEstimator"]

_KEYS = (INDIVIDUAL, DECISION, CHOICE, SELECTED)
_ROW = ("_row_thousands", "_row_units")  # a row's number, in two parts that float32 holds exactly
_PART = 1 << 12


class ConditionalLogitEstimator:
    """The conditional logit with the face of scikit-learn.

    `X` is `ChoiceSets`, or a long table as `mimic.tables.from_table` takes it (one row a choice; columns individual,
    decision, choice, selected and the features), whose numbers are used in double precision. There is no `y`:
    which choice was selected is part of the choice sets. `sklearn.base.clone` works, as does cross-validation on a
    long table where whole decisions stay together, such as GroupKFold over individuals.

    Parameters
    ----------
    features
        Names of features. Give these or a formula, not both.
    formula
        Such as "distance_km + log1p(distance_km) + sst:C(region)", see `mimic.formula.parse_formula`.
    weighting
        Whether "decision"s or "individual"s weigh the same, in the fit and in `score`.
    cluster
        Decision column whose values name the clusters of the cluster-robust errors; by default the individual.
    weights
        Decision column that tells how often each decision counts, in the fit and in `score`.
    offset
        Feature or column with a known part of the log-odds, nats. It is part of the prediction: let it be 0 in data
        that it does not hold for.
    columns
        Our names to the long table's, where they differ: `{"individual": "animal_id"}`.

    Attributes
    ----------
    coef_
        (feature,), nats per physical unit.
    features_
        Their names: the features, or the terms of the formula.
    result_
        The `ConditionalLogit`, with standard errors, tests and tables.

    Example
    -------
    Of a deep and a shallow cell, the deep one was selected in three decisions of four.

    >>> table = pd.DataFrame(
    ...     {
    ...         "individual": "a",
    ...         "decision": np.repeat([1, 2, 3, 4], 2),
    ...         "choice": [1, 2] * 4,
    ...         "selected": [1, 0, 1, 0, 1, 0, 0, 1],
    ...         "deep": [1.0, 0.0] * 4,
    ...     }
    ... )
    >>> model = ConditionalLogitEstimator(features=["deep"]).fit(table)
    >>> model.predict_proba(table)[:2].round(6)
    array([0.75, 0.25])
    """

    def __init__(
        self,
        features: Sequence[str] | None = None,
        *,
        formula: str | None = None,
        weighting: Weighting = "decision",
        cluster: str | None = None,
        weights: str | None = None,
        offset: str | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> None:
        self.features = features
        self.formula = formula
        self.weighting = weighting
        self.cluster = cluster
        self.weights = weights
        self.offset = offset
        self.columns = columns

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The options as they were given; `deep` changes nothing, as no option has options of its own."""
        return {name: getattr(self, name) for name in _OPTIONS}

    def set_params(self, **params: Any) -> Self:
        """The same estimator with other options. Raises ValueError for unknown ones."""
        unknown = [name for name in params if name not in _OPTIONS]
        if unknown:
            raise ValueError(f"unknown option {', '.join(unknown)}; known are {', '.join(_OPTIONS)}.")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def fit(self, X: ChoiceSets | pd.DataFrame, y: None = None) -> Self:
        """This estimator, fitted.

        Raises
        ------
        TypeError
            If `X` is neither choice sets nor a table, or `y` is given.
        ValueError
            As `fit_conditional_logit`, `parse_formula` and `from_table`, or if neither or both of features and formula
            are given, or a column is unknown.
        """
        if y is not None:
            raise TypeError(
                "expected no y: which choice was selected is in the choice sets, or in the column selected."
            )
        formula = self._formula()
        given = self._given(X, formula)
        coding = formula.coding(given.cs, columns=given.columns) if formula else Coding()
        columns = self._columns(given, formula, coding)
        self.result_: ConditionalLogit = fit_conditional_logit(
            given.cs,
            list(columns),
            columns=columns,
            weighting=self.weighting,
            weights=None if self.weights is None else given.of_decisions(self.weights, "weights"),
            cluster=None if self.cluster is None else given.of_decisions(self.cluster, "cluster"),
            offset=self._offset(given),
        )
        self.coding_ = coding
        self.features_ = self.result_.features
        self.coef_ = self.result_.coef
        return self

    def design(self, X: ChoiceSets | pd.DataFrame) -> tuple[ChoiceSets, dict[str, np.ndarray]]:
        """The choice sets, and of each feature or term of the formula its values: (row,), float64.

        For what takes both, such as `mimic.population.compare_population`. Needs a fit, as a formula codes categories
        by the levels that the fit met; raises as `predict_proba`.
        """
        self._check_fitted()
        given = self._given(X, self._formula())
        return given.cs, self._columns(given, self._formula(), self.coding_)

    def predict_log_proba(self, X: ChoiceSets | pd.DataFrame) -> np.ndarray:
        """ln p of every choice within its choice set: (row,), nats, in the order of the rows of `X`.

        Raises
        ------
        ValueError
            If the estimator is not fitted, or the data lack a feature or the offset.
        """
        given, phi = self._log_odds(X)
        return given.in_order(grouped_log_softmax(phi, given.cs.offsets))

    def predict_proba(self, X: ChoiceSets | pd.DataFrame) -> np.ndarray:
        """Probability of every choice within its choice set: (row,), in the order of the rows of `X`."""
        return np.exp(self.predict_log_proba(X))

    def score(self, X: ChoiceSets | pd.DataFrame, y: None = None, *, weighting: Weighting | None = None) -> float:
        """D, the mean ln p(selected), nats: exp of it is the GMP. Larger is better, 0 the largest.

        `weighting` and weights are those of the estimator unless given. Decisions of unknown selection are left
        out; NaN if there are no others.
        """
        given, phi = self._log_odds(X)
        cs = given.cs
        log_p = selected_log_probability(phi, cs.offsets, cs.selected)
        factors = None if self.weights is None else given.of_decisions(self.weights, "weights")
        weights = decision_weights(cs, weighting=weighting or self.weighting, factors=factors)
        return weighted_mean(np.where(weights > 0, log_p, 0.0), weights)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "result_")

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(
            estimator_type=None, target_tags=TargetTags(required=False), input_tags=InputTags(two_d_array=False)
        )

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items() if value is not None)
        return f"{type(self).__name__}({told})"

    def _formula(self) -> Formula | None:
        if (self.features is None) == (self.formula is None):
            raise ValueError(
                f"expected either features or a formula; got {'neither' if self.features is None else 'both'}."
            )
        if isinstance(self.features, str):
            raise ValueError(f"features must be a list of names; got the text {self.features!r}. Is it a formula?")
        return None if self.formula is None else parse_formula(self.formula)

    def _given(self, X: ChoiceSets | pd.DataFrame, formula: Formula | None, *, allow_unknown: bool = False) -> _Given:
        names = list(formula.names if formula else self.features or ())
        if isinstance(X, ChoiceSets):
            return _Given(X)
        if not isinstance(X, pd.DataFrame):
            raise TypeError(f"expected ChoiceSets or a long table (DataFrame); got {type(X).__name__}.")
        wanted = [*names, *([] if self.offset is None else [self.offset])]
        return _read(X, wanted, dict(self.columns or {}), allow_unknown=allow_unknown)

    def _columns(self, given: _Given, formula: Formula | None, coding: Coding) -> dict[str, np.ndarray]:
        if formula is None:
            return {name: given.of_rows(name, "feature") for name in self.features or ()}
        return formula.columns(given.cs, columns=given.columns, coding=coding)

    def _offset(self, given: _Given) -> np.ndarray | None:
        return None if self.offset is None else given.of_rows(self.offset, "offset")

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise ValueError(f"this {type(self).__name__} is not fitted yet; call fit with choice sets first.")

    def _log_odds(self, X: ChoiceSets | pd.DataFrame) -> tuple[_Given, np.ndarray]:
        """The data and the log-odds of their choices, offset included: (row,)."""
        self._check_fitted()
        formula = self._formula()
        given = self._given(X, formula, allow_unknown=True)
        phi = self.result_.log_odds(given.cs, columns=self._columns(given, formula, self.coding_))
        offset = self._offset(given)
        return given, phi if offset is None else phi + offset


_OPTIONS = ("features", "formula", "weighting", "cluster", "weights", "offset", "columns")


@dataclass(frozen=True, eq=False)
class _Given:
    """Choice sets with what a long table has beside their float32 features."""

    cs: ChoiceSets
    columns: Mapping[str, np.ndarray] | None = None  # name -> (row,), as in the table
    rows: np.ndarray | None = None  # (row,), the row of the table

    def of_rows(self, name: str, what: str) -> np.ndarray:
        """A column in every row: (row,)."""
        known = {**self.cs.features, **(self.columns or {})}
        if name not in known:
            raise ValueError(f"unknown {what} {name}; known are {', '.join(known) or 'none'}.")
        _check_numbers(known[name], f"{what} {name}")
        return known[name]

    def of_decisions(self, name: str, what: str) -> np.ndarray:
        """A decision column: (decision,)."""
        cs = self.cs
        if name in cs.decisions:
            values = cs.decisions[name].to_numpy()
            if what == "weights":
                _check_numbers(values, f"weights column {name}")
            return values
        known = {**cs.features, **(self.columns or {})}
        if name not in known:
            columns = ", ".join(map(str, cs.decisions.columns))
            raise ValueError(
                f"unknown {what} column {name}; expected one that is the same for all choices of a decision: {columns}."
            )
        first = known[name][cs.offsets[:-1]]
        if (np.repeat(first, cs.n_choices) != known[name]).any():
            raise ValueError(f"the {what} column {name} differs between the choices of a decision; expected one value.")
        return first

    def in_order(self, values: np.ndarray) -> np.ndarray:
        """Values of rows in the order of the table: (row,)."""
        if self.rows is None:
            return values
        ordered = np.empty_like(values)
        ordered[self.rows] = values
        return ordered


def _read(table: pd.DataFrame, names: Sequence[str], columns: Mapping[str, str], *, allow_unknown: bool) -> _Given:
    """The choice sets of a long table, and its columns of these names in their own precision."""
    there = {name: columns.get(name, name) for name in dict.fromkeys(names) if name not in _KEYS}
    there = {name: theirs for name, theirs in there.items() if theirs in table}
    numeric = [name for name, theirs in there.items() if pd.api.types.is_numeric_dtype(table[theirs].dtype)]
    number = np.arange(len(table))
    if len(table):  # before columns of our own are beside those of the user
        require_columns(list(map(str, table.columns)), _keys(table, columns, allow_unknown), where="choice table")
    cs = from_table(
        table.assign(**{_ROW[0]: number // _PART, _ROW[1]: number % _PART}),
        features=[*numeric, *_ROW],
        columns=columns,
        allow_unknown=allow_unknown,
    )
    missing = [name for name in names if not {name, name.removeprefix("_")} & {*there, *cs.decisions, *_KEYS}]
    if missing:
        require_columns(
            list(map(str, table.columns)), [columns.get(name, name) for name in missing], where="choice table"
        )
    rows = cs.features[_ROW[0]].astype(np.int64) * _PART + cs.features[_ROW[1]].astype(np.int64)
    kept = {name: cs.features[name] for name in numeric}
    found = {name: table[theirs].to_numpy()[rows] for name, theirs in there.items()}
    cs = ChoiceSets(cs.decisions, cs.offsets, cs.choice, cs.selected, kept)
    return _Given(cs, found, rows)


def _check_numbers(values: np.ndarray, what: str) -> None:
    """Refuse a column that holds text."""
    column = pd.Series(values)
    text = column[pd.to_numeric(column, errors="coerce").isna() & column.notna()]
    if len(text):
        raise ValueError(
            f"the {what} must hold numbers; got {examples(text.unique().tolist())}. Turn text into numbers, such as 0 "
            "and 1, first."
        )


def _keys(table: pd.DataFrame, columns: Mapping[str, str], allow_unknown: bool) -> list[str]:
    """The table's names of the columns that every long table has."""
    wanted = [key for key in _KEYS if key != SELECTED or not allow_unknown]
    aliases = {key: "_" + key if "_" + key in table and key not in table else key for key in wanted}
    named = [columns.get(key, columns.get("_" + key, aliases[key])) for key in wanted]
    return list(dict.fromkeys([*named, *columns.values()]))
