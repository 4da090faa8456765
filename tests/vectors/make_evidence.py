"""Makes evidence.json: one file of evidence of each form, for other implementations. Made once, its keys are random.

python -m tests.vectors.make_evidence > tests/vectors/evidence.json
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

from shared.evidence import bundle as bundles
from shared.evidence import refusal as refusals
from shared.evidence.bundle import AnyBundle
from tests.doubles.parties import EXPIRES, LETTER, Parties


def vector() -> dict[str, Any]:
    """Return the files, whose octets are UTF-8 text, and what each must be to a verifier."""
    world = Parties()
    online, offline = world.exchange(), world.offline()
    direct = world.direct(offline)
    files: dict[str, tuple[AnyBundle, str]] = {
        "online, NRR + NRD, with openings": (world.ttp.trade(online).opened(online.openings), "receipt"),
        "offline, NRR + NRD": (world.ttp.trade(offline), "receipt"),
        "offline, NRR + ACK, anchored": (direct, "receipt"),
        "offline, NRR + ACK, not anchored": (replace(direct, anchor=None), "anchor.missing"),
        "offline, ACK with another share": (world.direct(offline, world.ack(offline, bytes(32))), "ack.share"),
        "offline, ABORTED": (world.ttp.abort(offline, world.abort(offline)), "no trade: ABORTED"),
        "online, EXPIRED": (world.ttp.refuse(online, "EXPIRED", EXPIRES), "no trade: EXPIRED"),
    }
    return {
        "note": "docs/protocols/evidence.md sections 4 and 5",
        "root": world.root.certificate.hex(),
        "letter": LETTER.hex(),
        "bundles": {name: {"text": bundles.encode(one).decode(), "is": what} for name, (one, what) in files.items()},
        "refusal": refusals.encode(world.refused(offline)).decode(),
    }


if __name__ == "__main__":
    json.dump(vector(), sys.stdout, indent=1)
    sys.stdout.write("\n")
