"""Names and addresses of the machine that serves the live page, found without asking the network."""

from __future__ import annotations

import ipaddress
import socket

__all__ = ["is_address", "is_loopback", "reachable_host"]

# Set aside for documentation (RFC 5737, RFC 3849): never anybody's, and routed like any address elsewhere.
_ELSEWHERE = ((socket.AF_INET6, "2001:db8::1"), (socket.AF_INET, "192.0.2.1"))
_DISCARD_PORT = 9


def is_address(name: str) -> bool:
    """Say whether a name is an address of either version of IP."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches a host."""
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def reachable_host(host: str, bound: str) -> str:
    """Return what other machines may call this one: the host itself, unless it stands for every address there is.

    Then it is the address from which this machine would send to the outside, or its name where it has no way there.

    Args:
        host: where to listen, as it was given.
        bound: the address that it means.
    """
    if not ipaddress.ip_address(bound).is_unspecified:
        return host
    for family, elsewhere in _ELSEWHERE:
        if family == socket.AF_INET6 and ":" not in bound:
            continue
        own = _own_address(family, elsewhere)
        if own is not None:
            return own
    return socket.gethostname()


def _own_address(family: socket.AddressFamily, elsewhere: str) -> str | None:
    """Return the address that the system would send from; connecting a UDP socket only looks that up."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as outgoing:
            outgoing.connect((elsewhere, _DISCARD_PORT))
            own = str(outgoing.getsockname()[0])
    except OSError:  # no such family, or no way to the outside
        return None
    return None if ipaddress.ip_address(own).is_loopback else own
