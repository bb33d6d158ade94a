"""Where a latency is measured and what it must keep to, from options and a hardware profile together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from drivetl.deploy.profiles import load_profile
from drivetl.runtime import Bundle, Contract, Detector

__all__ = ["Limits", "Place", "detector_at", "limits_of", "provider_of"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where to measure, as far as the caller says.

    Attributes:
        provider: ``cpu``, ``cuda`` or ``tensorrt``; None takes the profile's, without one ``cpu``.
        threads: of one operator; None takes the profile's, without one ONNX Runtime's choice.
        cuda_graph: replay the network as one CUDA graph.
        engine_cache: a folder where TensorRT keeps its engines; None builds them at every start.
    """

    provider: str | None = None
    threads: int | None = None
    cuda_graph: bool = False
    engine_cache: Path | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Where to measure, and what to keep to.

    Attributes:
        provider: ``cpu``, ``cuda`` or ``tensorrt``.
        threads: of one operator; 0 for ONNX Runtime's choice.
        budget_ms: for the p99 end to end, or None.
        memory_mb: the most host memory in MiB, or None.
    """

    provider: str
    threads: int
    budget_ms: float | None
    memory_mb: int | None

    @classmethod
    def of(cls, place: Place) -> Limits:
        """Return the place with nothing to keep to."""
        return cls(place.provider or "cpu", place.threads or 0, None, None)


def provider_of(place: Place, profile: str | None) -> str:
    """Return the provider, before anything is opened on it.

    Raises:
        ConfigError: the profile cannot be used.
    """
    return place.provider or (load_profile(profile).provider if profile is not None else None) or "cpu"


def limits_of(contract: Contract, profile: str | None, place: Place, budget_ms: float | None) -> Limits:
    """Fill in from the profile what was not said.

    Raises:
        ConfigError: the profile cannot be used, or is about another kind of bundle.
    """
    if profile is None:
        return replace(Limits.of(place), budget_ms=budget_ms)
    hardware = load_profile(profile)
    hardware.check(contract, profile)
    return Limits(
        place.provider or hardware.provider,
        place.threads or hardware.threads or 0,
        budget_ms or hardware.budget_p99_ms,
        hardware.memory_mb,
    )


def detector_at(bundle: Bundle, place: Place, limits: Limits) -> Detector:
    """Open the detector there.

    Raises:
        BundleError, ProviderUnavailable: see `drivetl.runtime.Detector`.
    """
    return Detector(
        bundle,
        provider=limits.provider,
        threads=limits.threads,
        engine_cache=place.engine_cache,
        cuda_graph=place.cuda_graph,
    )
