"""Hardware profiles: what a machine in a vehicle must keep to, as a YAML that a person can read and extend."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from drivetl.config import StrictModel, load_model
from drivetl.errors import ConfigError, quoted
from drivetl.resources import resource_file
from drivetl.runtime import Contract

__all__ = ["Profile", "load_profile"]

_KIND = "export/profiles"
_MEASURE = "measure it with --provider and --budget-ms instead of --profile"
_NUMBERS = ("threads", "input_size_hw", "budget_p99_ms", "memory_mb", "peak_tflops", "bandwidth_gb_s")


class Profile(StrictModel):
    """What one piece of hardware must keep to. None means that nothing is known or required.

    Attributes:
        provider: ONNX Runtime execution provider that it is meant to run on.
        precision: precision that a bundle for it has.
        threads: CPU threads of one operator.
        input_size_hw: height and width of the model's input in pixels.
        budget_p99_ms: what 99 of 100 frames must keep to, end to end, in milliseconds.
        memory_mb: the most host memory that the process may occupy, in MiB.
        peak_tflops: 10¹² dense operations a second in that precision, at most; for estimates.
        bandwidth_gb_s: 10⁹ bytes a second between the processor that infers and its memory; for estimates.
        notes: what a person should know.
        sources: for every number above that is given, where it comes from.
    """

    provider: Literal["cpu", "cuda", "tensorrt"]
    precision: Literal["fp32", "fp16", "int8"] | None
    threads: int | None = Field(ge=1, le=1024)
    input_size_hw: tuple[int, int] | None
    budget_p99_ms: float | None = Field(gt=0, allow_inf_nan=False)
    memory_mb: int | None = Field(ge=1)
    peak_tflops: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    bandwidth_gb_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    notes: str
    sources: dict[str, str]

    @model_validator(mode="after")
    def _numbers_have_sources(self) -> Self:
        given = {name for name in _NUMBERS if getattr(self, name) is not None}
        if without := sorted(given - self.sources.keys()):
            raise ValueError(f"sources must say where {', '.join(without)} comes from")
        if beyond := sorted(self.sources.keys() - given):
            raise ValueError(f"sources speaks of {', '.join(beyond)}, for which there is no number")
        return self

    def check(self, contract: Contract, name: str, *, remedy: str = _MEASURE) -> None:
        """Refuse a bundle that is not what the profile is about: its budget would say nothing.

        Args:
            contract: of the bundle.
            name: of the profile, for the message.
            remedy: what to do about a bundle of another precision.

        Raises:
            ConfigError: precision or input size differ.
        """
        if self.precision not in (None, contract.precision):
            raise ConfigError(
                f"the profile {quoted(name)} is about {self.precision} and the bundle is {contract.precision}; {remedy}"
            )
        if self.input_size_hw not in (None, contract.input_size_hw):
            raise ConfigError(
                f"the profile {quoted(name)} is about inputs of {quoted(self.input_size_hw)} and the bundle takes "
                f"{quoted(contract.input_size_hw)} (height, width); export it with that --imgsz"
            )


def load_profile(name_or_path: str) -> Profile:
    """Read a shipped profile by its name, or any other by its path (ending in ``.yaml`` or ``.yml``).

    Raises:
        ConfigError: there is no such profile, or it does not fit the schema; all its problems are named.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = resource_file(_KIND, name_or_path)
    return load_model(Profile, path)
