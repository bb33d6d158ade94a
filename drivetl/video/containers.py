"""The structure of video files, found where it was before the vehicle program read it too: see `drivetl.containers`."""

from drivetl.containers import Container, inspect_container, whole_fragments_bytes

__all__ = ["Container", "inspect_container", "whole_fragments_bytes"]
