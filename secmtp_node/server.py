"""Runs the node until it is told to stop, or one of its workers died."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from pathlib import Path

import structlog

from secmtp_node.app import build
from secmtp_node.settings import Settings, TTPAddress

LOOK = 0.5


def serve(directory: Path, settings: Settings, address: TTPAddress) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Prints one line of JSON when it listens."""
    configure_log()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    node = build(directory, settings, address)
    sys.stdout.write(json.dumps({"ready": True, **node.ports}) + "\n")
    sys.stdout.flush()
    while not stop.wait(LOOK):
        if node.workers.died.is_set():
            break
    node.close()
    return 1 if node.workers.died.is_set() else 0


def configure_log() -> None:
    """Log JSON lines to standard error. aiosmtpd's own log would repeat what connections say: it is off."""
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
