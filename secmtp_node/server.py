"""Runs the node until it is told to stop, or one of its workers died."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from pathlib import Path

from secmtp_node.app import build
from secmtp_node.settings import Settings, TTPAddress
from shared.programs.log import configure_log

LOOK = 0.5


def serve(directory: Path, settings: Settings, address: TTPAddress, fault: str = "") -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Prints one line of JSON when it listens.

    `fault` names a rule that the node is to break, for rehearsals.
    """
    configure_log()
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)  # aiosmtpd's own would repeat what connections say
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    node = build(directory, settings, address, fault)
    sys.stdout.write(json.dumps({"ready": True, **node.ports}) + "\n")
    sys.stdout.flush()
    while not stop.wait(LOOK):
        if node.workers.died.is_set():
            break
    node.close()
    return 1 if node.workers.died.is_set() else 0
