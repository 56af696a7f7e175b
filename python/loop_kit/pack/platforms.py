"""What a part of a package is for: targets of compilers, and what programs are for, as platforms of OCI."""

from __future__ import annotations

import re

from loop_kit.manifest._pack import TRIPLE
from loop_kit.oci.model import Platform

__all__ = ["platform_of_program", "platform_of_triple"]

_MACHINES = {
    "x86_64": ("amd64", None),
    "aarch64": ("arm64", None),
    "armv7": ("arm", "v7"),
    "arm": ("arm", "v6"),
    "i686": ("386", None),
    "i586": ("386", None),
    "riscv64gc": ("riscv64", None),
    "s390x": ("s390x", None),
    "powerpc64le": ("ppc64le", None),
    "loongarch64": ("loong64", None),
}

# Of ELF's header: what `e_machine` means, at 18.
_ELF = {
    62: "amd64",
    183: "arm64",
    40: "arm",
    3: "386",
    243: "riscv64",
    22: "s390x",
    21: "ppc64le",
    258: "loong64",
}
# Of Mach-O's: `cputype`, at 4.
_MACH = {0x01000007: "amd64", 0x0100000C: "arm64"}
# Of PE's: `Machine`, after the signature that the number at 60 leads to.
_PE = {0x8664: "amd64", 0xAA64: "arm64", 0x14C: "386"}


def platform_of_triple(triple: str) -> Platform | None:
    """What `aarch64-unknown-linux-musl` is in OCI's words; None where the machine or the system is not known."""
    found = re.fullmatch(TRIPLE, triple)
    return None if found is None else Platform(_MACHINES[found[1]][0], found[3], _MACHINES[found[1]][1])


def platform_of_program(head: bytes) -> tuple[str, str] | None:
    """The system and the machine that a native program is for, by its first 4 KiB; None where it is none.

    What an ELF file is for is said as `linux`: hardly any says more.
    """
    if head[:4] == b"\x7fELF" and len(head) >= 20:
        order = "big" if head[5] == 2 else "little"
        return "linux", _ELF.get(int.from_bytes(head[18:20], order), "another machine")  # type: ignore[arg-type]
    if head[:4] == b"\xcf\xfa\xed\xfe":
        return "darwin", _MACH.get(int.from_bytes(head[4:8], "little"), "another machine")
    if head[:2] == b"MZ" and len(head) >= 64:
        at = int.from_bytes(head[60:64], "little")
        if head[at : at + 4] == b"PE\0\0":
            return "windows", _PE.get(int.from_bytes(head[at + 4 : at + 6], "little"), "another machine")
    return None
