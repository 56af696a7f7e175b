"""Who signed what is loaded: keys, signatures, and the policy that decides."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loop_kit.trust._artifact import attach, bundle_of, sign
    from loop_kit.trust._gate import Gate, gate, policy_of
    from loop_kit.trust._keyring import Keyring, PrivateKey
    from loop_kit.trust._record import Seen
    from loop_kit.trust._verify import Identity, verify
    from loop_kit.trust.keys import PublicKey
    from loop_kit.trust.policy import Keyless, Policy, Rule

__all__ = [
    "Gate", "Identity", "Keyless", "Keyring", "Policy", "PrivateKey", "PublicKey", "Rule", "Seen", "attach",
    "bundle_of", "gate", "own_gate", "policy_of", "sign", "verify",
]  # fmt: skip

# Manifests are read with what is in `policy`; the rest is only needed where something is signed or verified.
_WHERE = {
    "attach": "_artifact", "bundle_of": "_artifact", "sign": "_artifact",
    "Gate": "_gate", "gate": "_gate", "own_gate": "_gate", "policy_of": "_gate",
    "Keyring": "_keyring", "PrivateKey": "_keyring", "Seen": "_record", "Identity": "_verify", "verify": "_verify",
    "PublicKey": "keys", "Keyless": "policy", "Policy": "policy", "Rule": "policy",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
