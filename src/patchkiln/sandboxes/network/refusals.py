"""What was refused, told to the sandbox's owner: each once, and no more than can be read."""

from collections.abc import Callable

from patchkiln.domain.network import NetworkRefusal
from patchkiln.sandboxes.network.names import shown

MAX_REFUSALS = 100

NOT_LISTED = "not in the list of allowed hosts"
OWN_ADDRESS = "this machine's own address"
NOT_A_HOST = "not a host's name or address"
OTHER_TLS_NAME = "the TLS name differs from the host"
NO_TLS_NAME = "the TLS greeting names no host"
HIDDEN_TLS_NAME = "the TLS name is hidden"
NOT_TLS = "not TLS, which this port is for"
NOT_HTTP = "not HTTP, which this port is for"
IN_THE_CLEAR = "its credential goes over TLS only"
OTHER_HOST_HEADER = "the Host header differs from the host"


class Refused(Exception):
    """A connection that may not be made; ``rule`` is a short phrase for a person."""

    def __init__(self, host: str, port: int, rule: str) -> None:
        """Take where to, as the sandbox named it, and the rule."""
        super().__init__()
        self.refusal = NetworkRefusal(host=shown(host), port=port, rule=rule)


class Refusals:
    """Tells each refusal once."""

    def __init__(self, tell: Callable[[NetworkRefusal], None] | None) -> None:
        """Take whom to tell."""
        self._tell = tell
        self._told: set[NetworkRefusal] = set()

    def note(self, refusal: NetworkRefusal) -> None:
        """Tell a refusal unless it was told before, or too many were."""
        if refusal in self._told or len(self._told) == MAX_REFUSALS:
            return
        self._told.add(refusal)
        if self._tell is not None:
            self._tell(refusal)
