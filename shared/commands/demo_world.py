"""The demo's world: one directory with a CA, a TTP and two nodes; three processes; one letter's way.

Whatever happens, the processes that were started are ended, by their ids. Nothing waits without a
deadline, and nothing sleeps where a line or a file says that it's time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Self

from shared.commands import ca, demo_faults
from shared.commands.demo_faults import Fault
from shared.commands.demo_mail import Letter, content_digest, default_letter, read_letter, submit, take_bundle
from shared.commands.demo_processes import DemoFailed, Program, load_setup, wait_for
from shared.commands.demo_report import Outcome
from shared.crypto.certificates import TrustRoot
from shared.evidence import bundle as bundles
from shared.evidence.receipt import verify_no_trade
from shared.ledger import proof as proofs
from shared.programs.files import write_secret

TTP_NAME = "ttp.example"
SENDER, RECIPIENT = "alice@a.example", "bob@b.example"
USERS = {"a.example": [SENDER], "b.example": [RECIPIENT]}
PASSWORD = "demo-only-password"  # for two demo users in a throw-away directory, on loopback
LOOPBACK = "127.0.0.1"
NODE_HOST = "localhost"
DEADLINE = 120.0
TOKEN_LIFETIME = 3600


class World:
    """Makes the world on entry, runs one letter through it, ends every process on exit."""

    def __init__(
        self,
        place: Path,
        say: Callable[[str], None],
        users: Mapping[str, Sequence[str]] = USERS,
        *,
        mode: str = "online",
        fault: Fault | None = None,
        fault_name: str = "",
        settings: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """`settings` are environment variables of nodes by domain, beside those that mode and fault need."""
        self.place = place
        self._fault = fault
        self._fault_name = fault_name
        self._times = demo_faults.environment(mode, fault)
        self._settings = settings or {}
        self.root = place / "ca" / "root.pem"
        self.programs: dict[str, Program] = {}
        self.ports: dict[str, dict[str, int]] = {}
        self.ttp_port = 0
        self.say = say
        self._users = users
        self._started = time.monotonic()
        self._ttp: ModuleType = load_setup("ttp")
        self._node: ModuleType = load_setup("node")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for program in self.programs.values():
            program.tell_to_end()
        for program in self.programs.values():
            program.end()

    def run(self, message: Path | None) -> Outcome:
        """Set up, send, wait, verify. Raises DemoFailed with the step that failed."""
        letter = read_letter(message) if message else default_letter(self.place, SENDER, RECIPIENT, int(time.time()))
        self.set_up()
        if self._fault is not None:
            self.say(f"Fault: {self._fault.shows}")
            self._fault.before(self)
        self.say(f"{SENDER} submits {letter.octets} octets to her node, over TLS, with her password")
        submitted = self.submit(letter, [RECIPIENT])
        if self._fault is not None and not self._fault.delivers:
            return self._not_delivered(submitted)
        delivered = self._delivered(submitted)
        if self._fault is not None:
            self._fault.meanwhile(self)
        return self._outcome(submitted, delivered)

    def send_first(self) -> None:
        """Send a letter and wait for letter and receipt: from then on both nodes know what they need of the TTP."""
        self.say("A first letter, while everything is well")
        submitted = self.submit(default_letter(self.place, SENDER, RECIPIENT, 0), [RECIPIENT])
        self._report_on(self._delivered(submitted).name)

    def start_again(self, name: str) -> None:
        """Start a program again on the ports that it had."""
        kind = "ttp" if name == "ttp" else "node"
        arguments = [kind, "serve", "--dir", str(self.place / name)]
        environment = {"SECMTP_TTP_PORT": str(self.ttp_port)}
        if kind == "node":
            ports = self.ports[name.removeprefix("node-")]
            environment = {f"SECMTP_NODE_{key.upper()}": str(port) for key, port in ports.items() if key != "ready"}
        self.programs[name] = Program(name, arguments, self.place, {**self._environment(name), **environment})
        self.programs[name].ready(DEADLINE)

    def set_up(self) -> None:
        """Make CA, TTP and nodes, and start the three programs, each as soon as it can be."""
        now = int(time.time())
        self.say(f"Setting up in {self.place}: a CA, a TTP, two nodes")
        ca.init_authority(self.place / "ca", name="Demo root", now=now, passphrase=None)
        self._make_ttp(now)
        self.say("Starting the TTP")
        ttp = self._start("ttp", ["ttp", "serve", "--dir", str(self.place / "ttp")])
        for domain, users in self._users.items():
            self._make_node(domain, users, now)
        self.ttp_port = ttp.ready(DEADLINE)["port"]
        url = f"https://{LOOPBACK}:{self.ttp_port}"
        nodes = {domain: self._enrol_and_start(domain, url, now) for domain in self._users}
        self.ports = {domain: program.ready(DEADLINE) for domain, program in nodes.items()}

    def submit(self, letter: Letter, recipients: Sequence[str], sender: str = SENDER) -> str:
        """Submit a letter at the sender's node and return SHA-256 of the octets that went over the wire."""
        port = self.ports[sender.partition("@")[2]]["submission"]
        return submit(letter, (NODE_HOST, port), self.root, (sender, PASSWORD), recipients)

    def mailbox(self, user: str) -> list[Path]:
        """Return what is new in a user's Maildir, in the order of names."""
        new = self.place / f"node-{user.partition('@')[2]}" / "mail" / user / "new"
        return sorted(new.glob("*"))

    def _make_ttp(self, now: int) -> None:
        place = self.place / "ttp"
        self._ttp.initialise(place, name=TTP_NAME, hosts=[LOOPBACK, "localhost"], now=now)
        self._certify(place, self._ttp, now)

    def _make_node(self, domain: str, users: Sequence[str], now: int) -> None:
        place = self.place / f"node-{domain}"
        self._node.initialise(place, domains=[domain], hosts=[NODE_HOST], now=now)
        self._certify(place, self._node, now)
        for user in users:
            self._node.add_user(place, user, PASSWORD, now=now)

    def _enrol_and_start(self, domain: str, ttp_url: str, now: int) -> Program:
        place = self.place / f"node-{domain}"
        token = self._ttp.create_enrolment_token(self.place / "ttp", domains=[domain], now=now, lifetime=TOKEN_LIFETIME)
        self._node.enrol(place, ttp_url=ttp_url, ttp_name=TTP_NAME, token=token, now=now)
        self.say(f"Starting the node of {domain}")
        breaks = self._fault is not None and self._fault.domain == domain
        fault = ["--fault", self._fault_name] if breaks else []
        return self._start(f"node-{domain}", ["node", "serve", "--dir", str(place), *fault])

    def _certify(self, place: Path, setup: ModuleType, now: int) -> None:
        answer = place / "issued.json"
        ca.issue_from_file(self.place / "ca", place / "request.json", answer, now=now, passphrase=None)
        setup.install_certificates(place, answer, self.root, now=now)

    def _start(self, name: str, arguments: list[str]) -> Program:
        self.programs[name] = Program(name, arguments, self.place, self._environment(name))
        return self.programs[name]

    def _delivered(self, submitted: str) -> Path:
        """Wait for the letter in the recipient's Maildir: the one with these octets."""
        what = "the letter in the recipient's Maildir"
        self.say(f"Waiting for {what}")

        def look() -> Path | None:
            return next((path for path in self.mailbox(RECIPIENT) if content_digest(path) == submitted), None)

        return wait_for(look, DEADLINE, what, self._alive())

    def _report_on(self, exchange: str) -> Path:
        """Wait for the report about an exchange; any, if it isn't known yet which."""
        what = "the report in the sender's Maildir"
        self.say(f"Waiting for {what}")

        def look() -> Path | None:
            return next((path for path in self.mailbox(SENDER) if path.name.startswith(exchange)), None)

        return wait_for(look, DEADLINE, what, self._alive())

    def _alive(self) -> list[Program]:
        """Return the programs that nobody killed on purpose."""
        return [program for program in self.programs.values() if not program.killed]

    def _not_delivered(self, submitted: str) -> Outcome:
        report = self._report_on("")
        bundle_file = self.place / "report.secmtp.json"
        write_secret(bundle_file, take_bundle(report))
        bundle = bundles.decode(bundle_file.read_bytes())
        verified = verify_no_trade(bundle, TrustRoot.from_pem(self.root.read_bytes()))
        return Outcome(
            exchange=bundle.manifest.exchange.hex(),
            mode=bundle.manifest.core.mode,
            submitted_sha256=submitted,
            delivered_sha256="",
            delivered=None,
            receipt=report,
            bundle=bundle_file,
            trust=self.root,
            checkpoint=proofs.decode(bundle.proof).checkpoint.decode(),
            ttp_requests=self.requests_about(bundle.manifest.exchange.hex()),
            seconds=time.monotonic() - self._started,
            verdict="aborted" if verified.abort is not None else "not aborted",
            answers=f"the TTP's word that no trade happened ({verified.refusal.outcome}); it isn't a receipt",
        )

    def _environment(self, name: str) -> dict[str, str]:
        return {**self._times, **self._settings.get(name.removeprefix("node-"), {})}

    def _outcome(self, submitted: str, delivered: Path) -> Outcome:
        receipt = self._report_on(delivered.name)
        bundle_file = self.place / "receipt.secmtp.json"
        write_secret(bundle_file, take_bundle(receipt))  # with its openings it is as confidential as the letter
        bundle = bundles.decode_any(bundle_file.read_bytes())
        self.say("Verifying the bundle offline, in a process of its own")
        verdict = verify_in_process(bundle_file, self.root)
        return Outcome(
            exchange=bundle.manifest.exchange.hex(),
            mode=bundle.manifest.core.mode,
            submitted_sha256=submitted,
            delivered_sha256=content_digest(delivered),
            delivered=delivered,
            receipt=receipt,
            bundle=bundle_file,
            trust=self.root,
            checkpoint=_checkpoint(bundle),
            ttp_requests=self.requests_about(bundle.manifest.exchange.hex()),
            seconds=time.monotonic() - self._started,
            verdict="valid" if verdict["valid"] else f"not valid at {verdict['step']}",
            answers=_answers(verdict),
        )

    def wait_for_mail(self, user: str, what: str, count: int = 1) -> Path:
        """Wait until a user has `count` new messages and return the newest of them by name."""
        self.say(f"Waiting for {what}")

        def look() -> Path | None:
            found = self.mailbox(user)
            return found[-1] if len(found) >= count else None

        return wait_for(look, DEADLINE, what, list(self.programs.values()))

    def requests_about(self, exchange: str) -> int:
        """Count the requests about an exchange (hM, hexadecimal) that the TTP answered, by its log."""
        lines = (self.place / "ttp.log").read_text(encoding="utf-8").splitlines()
        events = (json.loads(line) for line in lines if line.startswith("{"))
        return sum(event.get("event") == "request" and event.get("exchange") == exchange for event in events)


def _answers(verdict: Mapping[str, object]) -> str:
    if not verdict["valid"]:
        return str(verdict.get("reason", ""))
    return f"{verdict['answers']}; carried by {verdict['carried_by']}"


def _checkpoint(bundle: bundles.AnyBundle) -> str:
    if isinstance(bundle, bundles.Bundle):
        return proofs.decode(bundle.proof).checkpoint.decode()
    if bundle.anchor is None:
        raise DemoFailed("the receipt isn't anchored")
    return proofs.decode(bundle.anchor.lodged.shown.proof).checkpoint.decode()


def verify_in_process(bundle: Path, root: Path) -> dict[str, object]:
    """Run `secmtp evidence verify --json` as a user would and return what it says."""
    command = [sys.executable, "-m", "shared.cli", "evidence", "verify", str(bundle), "--trust", str(root), "--json"]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)  # noqa: S603  (our own command)
    try:
        result: dict[str, object] = json.loads(done.stdout)
    except ValueError as error:
        raise DemoFailed(f"`secmtp evidence verify` said: {done.stderr.decode(errors='replace')}") from error
    return result
