"""Makes seals.json: seals that other implementations must open, one for each suite.

    python -m tests.vectors.make_seals > tests/vectors/seals.json

HPKE draws an ephemeral key, so running it again gives other octets: the file was made once and is only
opened by the tests.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from shared.crypto import sealing, suites
from shared.crypto.keys import generate_hpke


def seal(suite: suites.Suite) -> dict[str, Any]:
    """Return one seal with all that is needed to open it."""
    key = generate_hpke(suite.kem)
    context, plaintext = bytes(range(32)), bytes(range(100, 132))
    return {
        "suite": suite.name,
        "private": key.raw.hex(),
        "public": key.public.raw.hex(),
        "context": context.hex(),
        "slot": "T",
        "plaintext": plaintext.hex(),
        "seal": sealing.seal(suite, context, "T", key.public, plaintext).hex(),
    }


if __name__ == "__main__":
    json.dump([seal(suite) for suite in suites.ALLOWED.values()], sys.stdout, indent=1)
    sys.stdout.write("\n")
