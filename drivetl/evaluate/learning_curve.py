"""How much labelling is enough: accuracy against the number of labelled pictures, and what more of them would give.

Accuracy as a function of training pictures is well described by a power law that approaches a limit,
``accuracy = c - a * pictures ** -b`` (Cortes, Jackel, Solla, Vapnik and Denker, "Learning curves: asymptotic values and
rate of convergence", NIPS 1993; Hestness et al., "Deep learning scaling is predictable, empirically", 2017). It says
nothing of zero pictures, so zero-shot takes no part in the fit.

The uncertainty comes from resampling. Every replicate is the accuracy of all models on the same resample of test
pictures, to which the residuals of the fit are added with random signs (wild bootstrap; Wu 1986, "Jackknife, bootstrap
and other resampling methods in regression analysis", Annals of Statistics 14(4)): the first is the chance of the test
pictures, the second that of the training, as far as the points scatter about the law. The law is fitted to each
replicate anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.evaluate.intervals import interval_of

__all__ = ["MIN_SIZES", "Extrapolation", "PowerLaw", "Predicted", "extrapolate", "fit_power_law"]

# The law has three parameters.
MIN_SIZES = 3

# Slower than the smallest is a logarithm for all that any data set can tell; faster than the largest is flat.
_EXPONENTS = np.geomspace(0.05, 2.0, 96)

_Rows = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """``accuracy = c - a * pictures ** -b``.

    Attributes:
        a, b, c: float64 ``(rows,)``; ``a`` is at least 0, ``b`` from 0.05 to 2, ``c`` at most 1.
    """

    a: _Rows
    b: _Rows
    c: _Rows

    def at(self, pictures: Sequence[float] | _Rows) -> _Rows:
        """Return the accuracy, float64 ``(rows, len(pictures))``."""
        counts = np.asarray(pictures, dtype=np.float64)
        result: _Rows = self.c[:, None] - self.a[:, None] * counts ** -self.b[:, None]
        return result


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a number of labelled pictures is expected to give.

    Attributes:
        pictures: the number.
        value: accuracy on the law that is fitted to the measured points.
        interval: its nominal 95 % interval; None where the test pictures are too few for one.
        gain: difference to the law at the largest measured number.
        gain_interval: its interval.
    """

    pictures: float
    value: float
    interval: tuple[float, float] | None
    gain: float
    gain_interval: tuple[float, float] | None

    def document(self) -> dict[str, Any]:
        """Return JSON values."""
        pairs = {"interval": self.interval, "gain_interval": self.gain_interval}
        return {
            "pictures": self.pictures,
            "map50_95": self.value,
            "gain": self.gain,
            **{name: None if pair is None else list(pair) for name, pair in pairs.items()},
        }


@dataclass(frozen=True, slots=True)
class Extrapolation:
    """The law through the measured points, and what it says of other numbers.

    Attributes:
        law: one row.
        scatter: root mean square of the points about the law, by its degrees of freedom; None for three points.
        predicted: in the order asked for.
    """

    law: PowerLaw
    scatter: float | None
    predicted: tuple[Predicted, ...]


def fit_power_law(sizes: Sequence[int], values: _Rows) -> PowerLaw:
    """Fit the law by least squares.

    For a given exponent the other two parameters follow from linear regression under ``a >= 0`` and ``c <= 1``; of 96
    exponents the best is taken.

    Args:
        sizes: numbers of pictures, at least `MIN_SIZES` different ones above 0.
        values: float64 ``(rows, len(sizes))``, each at most 1; every row is fitted for itself.

    Raises:
        ValueError: the sizes do not determine the law.
    """
    if len(set(sizes)) < MIN_SIZES or min(sizes) <= 0:
        raise ValueError(f"a power law needs {MIN_SIZES} different sizes above 0, not {list(sizes)}")
    shape = np.asarray(sizes, dtype=np.float64) ** -_EXPONENTS[:, None]
    middle = shape.mean(axis=1, keepdims=True)
    spread = ((shape - middle) ** 2).sum(axis=1)
    mean = values.mean(axis=1)
    # (exponents, rows)
    a = np.maximum(-((shape - middle) @ (values - mean[:, None]).T) / spread[:, None], 0.0)
    c = mean + a * middle
    at_limit = ((1.0 - values) @ shape.T).T / (shape**2).sum(axis=1, keepdims=True)
    a, c = np.where(c > 1, at_limit, a), np.minimum(c, 1.0)
    fitted = c[..., None] - a[..., None] * shape[:, None, :]
    best = ((fitted - values) ** 2).sum(axis=2).argmin(axis=0)
    rows = np.arange(len(values))
    return PowerLaw(a[best, rows], _EXPONENTS[best], c[best, rows])


def extrapolate(
    sizes: Sequence[int],
    measured: _Rows,
    replicates: _Rows,
    at: Sequence[float],
    *,
    groups: int,
    rng: np.random.Generator,
) -> Extrapolation:
    """Fit the law to measured points and ask it for other numbers of pictures, with intervals.

    Args:
        sizes: numbers of labelled pictures, rising.
        measured: float64 ``(len(sizes),)``: the accuracy with each.
        replicates: float64 ``(replicates, len(sizes))``: the same on resamples of the test pictures; a row is one
            resample. Rows with NaN are left out. No rows: no intervals.
        at: numbers of pictures to predict the accuracy for.
        groups: groups of test pictures that the accuracy rests on.
        rng: of the residuals' signs.

    Raises:
        ValueError: see `fit_power_law`.
    """
    law = fit_power_law(sizes, measured[None])
    freedom = len(sizes) - MIN_SIZES
    residuals = measured - law.at(sizes)[0]
    scale = math.sqrt(len(sizes) / freedom) if freedom else 0.0
    valid = replicates[~np.isnan(replicates).any(axis=1)]
    signs = rng.choice(np.array([-1.0, 1.0]), size=valid.shape)
    drawn = fit_power_law(sizes, valid + signs * residuals * scale)
    point, many = law.at(at)[0], drawn.at(at)
    last, last_many = law.at([sizes[-1]])[0, 0], drawn.at([sizes[-1]])
    return Extrapolation(
        law,
        float(np.sqrt((residuals**2).sum() / freedom)) if freedom else None,
        tuple(
            Predicted(
                pictures,
                float(point[i]),
                _ends(many[:, i], groups),
                float(point[i] - last),
                _ends(many[:, i] - last_many[:, 0], groups),
            )
            for i, pictures in enumerate(at)
        ),
    )


def _ends(values: _Rows, groups: int) -> tuple[float, float] | None:
    interval = interval_of(values, groups)
    return None if interval is None else (interval.low, interval.high)
