"""`secmtp ca`: a root certification authority, kept off line and apart from the TTP.

It certifies TTPs and nodes from the request files that they make, after a person has looked at what is
asked. The TTP is never the CA: one that could certify keys could read.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509

from shared.commands import authority
from shared.commands.authority import init_authority, issue_from_file
from shared.crypto import requests
from shared.crypto.keys import key_id
from shared.crypto.passphrase import MIN_CHARACTERS
from shared.crypto.paths import CHAIN, TrustRoot, authority_key
from shared.crypto.requests import DOMAIN_CA, CertificateRequest, Certificates
from shared.encoding import canonical
from shared.errors import ConfigurationError
from shared.programs import files

__all__ = ["app", "init_authority", "issue_from_file"]

app = typer.Typer(help="Keep a root certification authority.", no_args_is_help=True)

DECLINED = 1
DAY = 24 * 3600
MAX_PASSPHRASE = 1024
_A = {requests.TTP_KIND: "A TTP", requests.NODE_KIND: "A node"}

Directory = Annotated[Path, typer.Option("--dir", help="The authority's directory: root.pem, root.key, issued.jsonl.")]
PassphraseFile = Annotated[
    Path | None, typer.Option(help="A file (0600) with the passphrase of the key; without it you are asked.")
]


@app.command()
def init(
    directory: Directory,
    name: Annotated[str, typer.Option(help="What people will see as the name of this authority.")],
    passphrase_file: PassphraseFile = None,
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Leave the key unencrypted: for tests and demonstrations.")
    ] = False,
    days: Annotated[int, typer.Option(help="How long the root is valid.", min=1)] = 20 * 365,
) -> None:
    """Make a new root: its key, and the certificate (root.pem) that everybody will trust."""
    passphrase = None if no_passphrase else _passphrase(passphrase_file, new=True)
    root = init_authority(directory, name=name, now=int(time.time()), passphrase=passphrase, lifetime=days * DAY)
    typer.echo(f"Made {root}. Give it to everybody who is to verify evidence, by a way that can't be tampered with:")
    for line in _root_lines(TrustRoot.from_pem(files.read_bounded(root, authority.MAX_PEM))):
        typer.echo(line)


@app.command()
def issue(
    request: Annotated[Path, typer.Argument(help="The request (request.json) of a TTP or a node.")],
    directory: Directory,
    out: Annotated[Path, typer.Option(help="Where to put the certificates. Must not exist.")],
    passphrase_file: PassphraseFile = None,
    yes: Annotated[bool, typer.Option("--yes", help="Certify without asking.")] = False,
    days: Annotated[int, typer.Option(help="How long the certificates are valid.", min=1)] = 2 * 365,
) -> None:
    """Certify what a request asks for, after you have seen it."""
    asked = authority.read_request(request)
    for line in (*_request_lines(asked), *_conflict_lines(directory, asked)):
        typer.echo(line)
    if not yes and not typer.confirm("Do you know that these names are the requester's, and certify them?"):
        raise typer.Exit(DECLINED)
    locked = authority.needs_passphrase(directory)
    passphrase = _passphrase(passphrase_file, new=False) if locked else None
    now = int(time.time())
    issued = issue_from_file(directory, request, out, now=now, passphrase=passphrase, lifetime=days * DAY)
    typer.echo(f"Certified {_count(issued)} keys: send {out} back.")


@app.command()
def show(file: Annotated[Path, typer.Argument(help="A root (PEM), a request, or a certificates file.")]) -> None:
    """Print what a file says. Nothing is verified but that a request's keys are the requester's."""
    data = files.read_bounded(file, requests.MAX_FILE)
    for line in _shown(file, data):
        typer.echo(line)


def _shown(file: Path, data: bytes) -> Iterable[str]:
    if data.startswith(b"-----BEGIN CERTIFICATE-----"):
        return _root_lines(TrustRoot.from_pem(data))
    members = canonical.decode(data, what=str(file), limit=requests.MAX_FILE)
    if "csrs" in members:
        return _request_lines(requests.decode_request(data))
    return _certificates_lines(requests.decode_certificates(data))


def _root_lines(root: TrustRoot) -> Iterator[str]:
    for certificate, identifier in zip(root.to_library(), root.key_ids, strict=True):
        yield f"  root     {certificate.subject.rfc4514_string()}"
        yield f"  valid    {_validity(certificate)}"
        yield f"  key id   {identifier.hex()}"


def _request_lines(request: CertificateRequest) -> Iterator[str]:
    yield f"{_A[request.names.kind]} asks to be certified:"
    for purpose, names in request.names.leaves.items():
        yield f"  {purpose.value:<13}{', '.join(names)}"
        yield f"  {'':<13}key id {key_id(request.keys[purpose]).hex()}"
    if request.domain_ca is not None:
        yield f"  {DOMAIN_CA:<13}may certify every address at {', '.join(request.names.domains)}"
        yield f"  {'':<13}key id {key_id(request.domain_ca).hex()}"


def _certificates_lines(certificates: Certificates) -> Iterator[str]:
    yield f"{_A[certificates.kind]} was certified:"
    issued = {purpose.value: der for purpose, der in certificates.leaves.items()}
    if certificates.domain_ca is not None:
        issued[DOMAIN_CA] = certificates.domain_ca
    for purpose, der in issued.items():
        certificate = _parsed(der)
        yield f"  {purpose:<13}{', '.join(_names(certificate))}"
        yield f"  {'':<13}valid {_validity(certificate)}, serial {certificate.serial_number:x}"
    root = _parsed(certificates.root)
    yield f"  by           {root.subject.rfc4514_string()}, key id {key_id(authority_key(root, CHAIN)).hex()}"


def _conflict_lines(directory: Path, request: CertificateRequest) -> Iterator[str]:
    """Say which names this authority certified for other keys before: a renewal, or somebody else."""
    for before in authority.certified_before(directory, request):
        names = ", ".join(before.names)
        yield f"ATTENTION: {names} ({before.purpose}) was certified for another key on {_day(before.issued)}"


def _parsed(der: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise ConfigurationError("the file holds something that isn't a certificate") from error


def _names(certificate: x509.Certificate) -> list[str]:
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            return [str(name.value) for name in extension.value]
        if isinstance(extension.value, x509.NameConstraints):
            return [f"*@{tree.value}" for tree in extension.value.permitted_subtrees or ()]
    return []


def _validity(certificate: x509.Certificate) -> str:
    return f"{certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"


def _day(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def _count(certificates: Certificates) -> int:
    return len(certificates.leaves) + (certificates.domain_ca is not None)


def _passphrase(file: Path | None, *, new: bool) -> str:
    if file is None:
        prompt = (
            f"New passphrase (at least {MIN_CHARACTERS} characters)" if new else "Passphrase of the authority's key"
        )
        asked: str = typer.prompt(prompt, hide_input=True, confirmation_prompt=new)
        return asked
    data = files.read_secret(file, MAX_PASSPHRASE)
    try:
        return data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{file} isn't UTF-8 text") from error
