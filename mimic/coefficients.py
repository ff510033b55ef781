"""Coefficients and their covariances into standard errors, intervals, measures of fit, and a table as data and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from mimic.contrasts import Weighting
from mimic.covariance import FEW_CLUSTERS, CovarianceKind, check_kind, few_clusters_factor, quantile, two_sided_p
from mimic.schema import ChoiceSets

__all__ = ["ConditionalLogit", "feature_columns"]


@dataclass(frozen=True, eq=False)
class ConditionalLogit:
    """A linear model of log-odds, phi = sum_j coef_j x_j, at the maximum of its likelihood.

    Parameters
    ----------
    features, coef
        Names, and (feature,), nats per physical unit of the feature.
    covariance
        (feature, feature): inverse of the negative Hessian of the weighted log-likelihood. It takes
        decisions for independent and weights for counts.
    log_likelihood
        Sum of weight x ln p(selected), nats. Over the sum of weights it is D; without weights GMP is
        exp(log_likelihood / n_decisions).
    null_log_likelihood
        The same with all coefficients 0: the offset alone or, without one, every choice equally likely.
    n_decisions, n_rows
        Decisions with a known selection and a weight above 0, and their choices.
    iterations, converged
        Newton steps taken, and whether the last of them was within the tolerance.
    robust_covariance, cluster_covariance
        (feature, feature): sandwiches that hold where the model is not right, see `mimic.covariance`; the
        second also where decisions of a cluster go together. Without a factor for few clusters.
    n_clusters
        Clusters (individuals, unless others were given) with decisions that carry information.
    clusters_given
        Whether clusters were named in the fit.
    total_weight, weights_are_counts
        Sum of the weights of the decisions: `n_decisions`, unless weights were given; and whether these are whole
        numbers.
    weighting
        What weighed the same in the likelihood.
    balanced_log_probability, null_balanced_log_probability
        Mean over individuals of the mean ln p(selected) of their decisions, nats, whatever the weighting.
    data_id
        Equal for fits to the same selections, choice sets, weights and offset.
    """

    features: tuple[str, ...]
    coef: np.ndarray
    covariance: np.ndarray
    log_likelihood: float
    null_log_likelihood: float
    n_decisions: int
    n_rows: int
    iterations: int
    converged: bool
    robust_covariance: np.ndarray | None = None
    cluster_covariance: np.ndarray | None = None
    n_clusters: int = 0
    clusters_given: bool = False
    total_weight: float | None = None
    weights_are_counts: bool = True
    weighting: Weighting = "decision"
    balanced_log_probability: float = np.nan
    null_balanced_log_probability: float = np.nan
    data_id: str = ""

    @property
    def se(self) -> np.ndarray:
        """Standard errors from the Hessian: (feature,), in the units of `coef`."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def robust_se(self) -> np.ndarray | None:
        """Standard errors from the robust covariance: (feature,)."""
        return None if self.robust_covariance is None else np.sqrt(np.diag(self.robust_covariance))

    @property
    def cluster_se(self) -> np.ndarray | None:
        """Standard errors from the cluster-robust covariance: (feature,), without a factor for few clusters.

        NaN with fewer than two clusters.
        """
        return None if self.cluster_covariance is None else np.sqrt(np.diag(self.cluster_covariance))

    @property
    def aic(self) -> float:
        """2 k - 2 ln L, with k features. Smaller is better, on the same data only.

        Made for independent decisions that weigh the same: with other weights, or decisions that go together, it
        favors models that are too large.
        """
        return 2 * len(self.features) - 2 * self.log_likelihood

    @property
    def bic(self) -> float:
        """k ln n - 2 ln L, with k features and n decisions (the sum of their weights)."""
        return len(self.features) * float(np.log(self._n)) - 2 * self.log_likelihood

    @property
    def mcfadden(self) -> float:
        """McFadden's pseudo R2, 1 - ln L / ln L_null: 0 for the null, 1 for certainty."""
        return 1 - self.log_likelihood / (self.null_log_likelihood or np.nan)

    @property
    def adjusted_mcfadden(self) -> float:
        """McFadden's pseudo R2 less its price, 1 - (ln L - k) / ln L_null, with k features."""
        return 1 - (self.log_likelihood - len(self.features)) / (self.null_log_likelihood or np.nan)

    @property
    def gmp(self) -> float:
        """Geometric-mean probability of the selected choices, exp(D), each decision by its weight."""
        return float(np.exp(self.log_likelihood / self._n))

    @property
    def null_gmp(self) -> float:
        """GMP of the null."""
        return float(np.exp(self.null_log_likelihood / self._n))

    @property
    def balanced_gmp(self) -> float:
        """GMP with individuals weighing the same, whatever weighed the same in the fit."""
        return float(np.exp(self.balanced_log_probability))

    @property
    def null_balanced_gmp(self) -> float:
        """GMP of the null with individuals weighing the same."""
        return float(np.exp(self.null_balanced_log_probability))

    @property
    def default_kind(self) -> CovarianceKind:
        """The covariance that tables and tests rest on: "cluster" from two clusters on, otherwise "hessian"."""
        return "cluster" if self.cluster_covariance is not None and self.n_clusters > 1 else "hessian"

    @property
    def _n(self) -> float:
        return self.n_decisions if self.total_weight is None else self.total_weight

    def log_odds(self, cs: ChoiceSets, *, columns: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """Log-odds of every choice: (row,), float64, nats. An offset of the fit is not in it; add it where it counts.

        `columns` as in the fit. Raises ValueError if a feature is unknown, not finite or of another shape.
        """
        phi = np.zeros(cs.n_rows)
        for coef, values in zip(self.coef, feature_columns(cs, self.features, columns), strict=True):
            phi += coef * values  # float64, as `coef` is a float64 scalar of NumPy
        return phi

    def covariance_of(self, kind: CovarianceKind, *, small_sample: bool = False) -> np.ndarray:
        """The covariance of the coefficients by its kind: (feature, feature).

        Parameters
        ----------
        kind
            "hessian": the model is right. "robust": decisions are independent. "cluster": clusters are.
        small_sample
            Whether "cluster" is raised by G / (G - 1), with G clusters.

        Raises
        ------
        ValueError
            If there is no such kind, or the fit does not have it.
        """
        check_kind(kind)
        known = {"hessian": self.covariance, "robust": self.robust_covariance, "cluster": self.cluster_covariance}
        found = known[kind]
        if found is None:
            raise ValueError(f'this fit has no {kind} covariance; use "hessian", or fit_conditional_logit.')
        return found * few_clusters_factor(self.n_clusters) if kind == "cluster" and small_sample else found

    def intervals(self, level: float = 0.95, kind: CovarianceKind = "hessian") -> pd.DataFrame:
        """Confidence intervals of the coefficients: one row a feature (the index), columns low and high.

        "hessian" and "robust" take quantiles of the normal distribution. "cluster" takes those of Student's t
        with G - 1 degrees of freedom and raises the covariance by G / (G - 1), with G clusters; `cluster_se` has
        no such factor. NaN with fewer than two clusters.

        Raises
        ------
        ValueError
            If `level` is not in (0, 1), or the fit does not have this kind of covariance.
        """
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, such as 0.95; got {level}.")
        half = quantile((1 + level) / 2, degrees=self._degrees(kind)) * self._errors(kind)
        return pd.DataFrame({"low": self.coef - half, "high": self.coef + half}, index=self._index)

    def summary(self, *, kind: CovarianceKind | None = None, level: float = 0.95) -> pd.DataFrame:
        """The coefficients as a table, one row a feature (the index).

        Parameters
        ----------
        kind
            Of the covariance that z, p, low and high rest on; by default "cluster" from two clusters on, and
            otherwise "hessian". The column `kind` tells.

        Returns
        -------
        coef, exp_coef, se, robust_se, cluster_robust_se (NaN where the fit does not have them), z, p (two-sided),
        low, high, kind. For "cluster", z, p, low and high are those of `intervals`: with the factor for few
        clusters, which cluster_robust_se does not have, and Student's t.
        """
        kind = kind or self.default_kind
        z = self.coef / self._errors(kind)
        nothing = np.full(len(self.coef), np.nan)
        with np.errstate(over="ignore"):
            exp_coef = np.exp(self.coef)
        table = pd.DataFrame(
            {
                "coef": self.coef,
                "exp_coef": exp_coef,
                "se": self.se,
                "robust_se": nothing if self.robust_se is None else self.robust_se,
                "cluster_robust_se": nothing if self.cluster_se is None else self.cluster_se,
                "z": z,
                "p": two_sided_p(z, degrees=self._degrees(kind)),
            },
            index=self._index,
        )
        return table.join(self.intervals(level, kind)).assign(kind=kind)

    def format(self, *, kind: CovarianceKind | None = None, level: float = 0.95) -> str:
        """The facts of the fit and the table of `summary` as aligned text; what rests on few clusters is called so."""
        kind = kind or self.default_kind
        table = self.summary(kind=kind, level=level).drop(columns="kind")
        notes = [
            f"z, p and the {100 * level:g} % interval (low, high) rest on {_RESTS_ON[kind].format(self.n_clusters)}."
        ]
        if self.n_clusters < FEW_CLUSTERS and self.cluster_covariance is not None:
            whose = "clusters" if self.clusters_given else "individuals"
            notes.append(f"The cluster-robust errors rest on few {whose} ({self.n_clusters}).")
        if not self.converged:
            notes.append(f"No convergence in {self.iterations} Newton steps.")
        return "\n".join([*self._facts(), "", *_aligned(table), "", *notes])

    def __str__(self) -> str:
        return self.format()

    def _facts(self) -> list[str]:
        """What was fitted and how well, one fact a line."""
        whose = "clusters" if self.clusters_given else "individuals"
        facts = {
            "decisions": f"{self.n_decisions:,} ({self.n_clusters:,} {whose}), {self.n_rows:,} choices",
            "weigh the same": f"{self.weighting}s",
            "log-likelihood": f"{self.log_likelihood:.6f} (null {self.null_log_likelihood:.6f})",
        }
        # as `mimic.inference.likelihood_ratio_test` refuses
        is_likelihood = self.weighting == "decision" and self.weights_are_counts and not self.clusters_given
        if is_likelihood and self.features:
            chi2, df = 2 * (self.log_likelihood - self.null_log_likelihood), len(self.features)
            p = float(special.chdtrc(df, max(chi2, 0.0)))
            facts["LR chi2"] = f"{chi2:.2f} on {df} df, p {f'= {p:.3g}' if p > 0 else '< 1e-300'}"
        facts |= {
            "AIC, BIC": f"{self.aic:.2f}, {self.bic:.2f}",
            "McFadden": f"{self.mcfadden:.4f} (adjusted {self.adjusted_mcfadden:.4f})",
            "GMP": f"{self.gmp:.6f} (null {self.null_gmp:.6f})",
        }
        if self.weighting == "decision" and np.isfinite(self.balanced_log_probability):
            facts["GMP, individuals weighing the same"] = f"{self.balanced_gmp:.6f} (null {self.null_balanced_gmp:.6f})"
        width = max(map(len, facts))
        return [f"{name:<{width}}  {value}" for name, value in facts.items()]

    def _errors(self, kind: CovarianceKind) -> np.ndarray:
        """Standard errors with the factor for few clusters: (feature,)."""
        return np.sqrt(np.diag(self.covariance_of(kind, small_sample=True)))

    def _degrees(self, kind: CovarianceKind) -> float:
        """Degrees of freedom of the distribution of coef / error; infinite for the normal one."""
        return max(self.n_clusters - 1, 1) if kind == "cluster" else np.inf

    @property
    def _index(self) -> pd.Index:
        return pd.Index(self.features, name="feature", dtype="str")


_RESTS_ON = {
    "hessian": "the Hessian (se) and the normal distribution",
    "robust": "robust_se and the normal distribution",
    "cluster": "cluster_robust_se, raised by G / (G - 1), and Student's t, G = {} clusters",
}


def feature_columns(cs: ChoiceSets, names: Sequence[str], columns: Mapping[str, np.ndarray] | None) -> list[np.ndarray]:
    """Values of each feature, in the type of float that they came in: (row,) each.

    `columns` replace features or add to them. Raises ValueError that names features which are unknown, of another
    shape, or not finite.
    """
    known = {**cs.features, **{name: np.asarray(values) for name, values in (columns or {}).items()}}
    missing = [name for name in names if name not in known]
    if missing:
        raise ValueError(f"unknown feature {', '.join(missing)}; known are {', '.join(known)}.")
    found = {name: known[name] if known[name].dtype.kind == "f" else known[name].astype(np.float64) for name in names}
    wrong = [f"{name} {values.shape}" for name, values in found.items() if values.shape != (cs.n_rows,)]
    if wrong:
        raise ValueError(f"columns must have shape (row,) = ({cs.n_rows},); got {', '.join(wrong)}.")
    bad = {name: np.count_nonzero(~np.isfinite(values)) for name, values in found.items()}
    if any(bad.values()):
        told = [f"{name} ({n} of {cs.n_rows} rows)" for name, n in bad.items() if n]
        raise ValueError(
            f"features must be finite; got NaN or infinity in {', '.join(told)}. "
            "Drop these choices or fill the covariate first."
        )
    return list(found.values())


def _aligned(table: pd.DataFrame) -> list[str]:
    """A table of numbers as lines, each column as wide as it needs to be."""
    names = ["feature", *map(str, table.index)]
    columns = [[str(c), *(_number(v) for v in table[c])] for c in table]
    widths = [max(map(len, column)) for column in columns]
    first = max(map(len, names))
    return [
        "  ".join([f"{name:<{first}}", *(f"{column[i]:>{w}}" for column, w in zip(columns, widths, strict=True))])
        for i, name in enumerate(names)
    ]


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.4g}"
