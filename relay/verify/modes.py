"""How strictly a host's chains are judged (design section 4, "Modes per host").

A *proven* commit names its `prevData`, and its operations lead back to exactly that. `strict` passes nothing else but
the first commit of an account. `ratchet` also passes what hosts from before Sync 1.1 send, until the first proven
commit shows that the host has moved on; that is for good. `lenient` does so without end, by an operator's choice.
"""

STRICT = "strict"
RATCHET = "ratchet"
LENIENT = "lenient"

MODES = (RATCHET, STRICT, LENIENT)


def mode_of(chosen: str, configured: str, *, known_at_install: bool, proven: bool) -> str:
    """The mode that a host is judged in now. `chosen` is what an operator set for this host, "" for nothing.

    The ratchet is open only on hosts known at install, or set to it by an operator, that never sent a proven commit:
    who comes later is expected to speak the present protocol.
    """
    mode = chosen or configured
    if mode != RATCHET:
        return mode
    is_listed = known_at_install or chosen == RATCHET
    return RATCHET if is_listed and not proven else STRICT


def passes_unproven(mode: str) -> bool:
    """Whether an absent `prevData`, and an update or delete without `prev`, pass in this mode."""
    return mode in (RATCHET, LENIENT)
