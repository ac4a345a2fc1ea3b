"""Which network addresses may be connected to. Asked for the very address a socket is about to use.

An EHR inside a hospital has a private address, so an administrator may allow those for an issuer. Nobody can
allow link-local and metadata addresses: they answer with the credentials of the machine this app runs on.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # the usual one; link-local anyway
        "100.100.100.200",  # in shared address space, so not link-local
        "168.63.129.16",  # a public address, served by the hypervisor
        "192.0.0.192",
        "fd00:ec2::254",  # in unique local space, so merely private otherwise
        "fd20:ce::254",
    )
)
_NAT64 = ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """What one issuer allows beyond public addresses."""

    allow_private: bool = False
    allow_loopback: bool = False
    """Only ever set by the demo and by tests, never by a configuration file."""

    def permits(self, address: str) -> bool:
        """Whether a socket may connect to `address` (IPv4 or IPv6 text, a zone suffix refused)."""
        try:
            ip = _innermost(ip_address(address))
        except ValueError:
            return False
        if ip in _METADATA or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
            return False
        if isinstance(ip, IPv6Address) and (ip.scope_id or ip.is_site_local):
            return False
        if ip.is_loopback:
            return self.allow_loopback
        if ip.is_reserved:
            return False
        return ip.is_global or self.allow_private


def is_inside(address: str) -> bool:
    """Whether an address, written as a number, is inside a network, or this machine's own.

    What is sent there passes no public network. A name is never inside: what it leads to may change.
    """
    policy = AddressPolicy(allow_private=True, allow_loopback=True)
    return policy.permits(address) and _innermost(ip_address(address)).is_private


def _innermost(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address inside an IPv6 one that merely carries it (mapped, 6to4, NAT64)."""
    if isinstance(ip, IPv4Address):
        return ip
    if ip.ipv4_mapped:
        return ip.ipv4_mapped
    if ip.sixtofour:
        return ip.sixtofour
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip
