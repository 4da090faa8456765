"""`secmtp evidence`: verify and show bundles, offline, with nothing but the pure core.

Exit codes: 0 a valid receipt, 1 not valid (the failed step is named), 2 an input can't be used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from shared.crypto.certificates import TrustRoot
from shared.crypto.stream import CHUNK
from shared.encoding import canonical
from shared.errors import EvidenceFault, SecMTPError
from shared.evidence import bundle as bundles
from shared.evidence import refusal as refusals
from shared.evidence.bundle import AnyBundle, DirectBundle
from shared.evidence.receipt import NoTrade, Receipt, verify_bundle, verify_content, verify_no_trade
from shared.evidence.refusal import RefusalFile
from shared.ledger import policy as policies
from shared.ledger.policy import Policy
from shared.programs.files import read_bounded

app = typer.Typer(help="Verify and show evidence, offline.", no_args_is_help=True)

NOT_VALID = 1
UNUSABLE = 2
MAX_ROOT = 64 * 1024

BundleFile = Annotated[Path, typer.Argument(help="The bundle: *.secmtp.json, as attached to a receipt.")]


@app.command()
def verify(
    bundle: BundleFile,
    trust: Annotated[Path, typer.Option(help="The root certificate (PEM) that you trust.")],
    message: Annotated[
        Path | None, typer.Option(help="The message: check that the receipt is for exactly these octets.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="A tlog-policy file: demand that its quorum of witnesses saw the ledger.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Say whether a bundle is a valid receipt (docs/protocols/evidence.md, V0 to V6)."""
    try:
        unverified = _read(bundle)
        root = TrustRoot.from_pem(read_bounded(trust, MAX_ROOT))
        demanded = None if policy is None else policies.decode(read_bounded(policy, policies.MAX_POLICY))
    except SecMTPError as error:
        _finish({"valid": False, "step": "input", "reason": error.message}, UNUSABLE, as_json=as_json)
    if isinstance(unverified, RefusalFile):
        _finish(_refused(unverified, root, demanded), NOT_VALID, as_json=as_json)
    try:
        receipt = verify_bundle(unverified, root, demanded)
        _check_content(receipt, unverified, message)
    except EvidenceFault as fault:
        result = {"valid": False, "step": fault.step, "reason": fault.reason, **_names(unverified)}
        _finish({**result, **_no_trade(unverified, root, demanded)}, NOT_VALID, as_json=as_json)
    except SecMTPError as error:
        _finish({"valid": False, "step": "input", "reason": error.message}, UNUSABLE, as_json=as_json)
    _finish(_facts(receipt, content=message is not None), 0, as_json=as_json)


@app.command()
def show(bundle: BundleFile) -> None:
    """Print what a bundle says, without checking it."""
    try:
        unverified = _read(bundle)
    except SecMTPError as error:
        typer.echo(f"unusable: {error.message}", err=True)
        raise typer.Exit(UNUSABLE) from error
    core = unverified.manifest.core
    rows = {
        "exchange": unverified.manifest.exchange.hex(),
        "mode": core.mode,
        "from": core.sender.address,
        "to": f"{core.recipient.address} (receipt level {core.recipient.level})",
        "TTP": f"{core.ttp.name}, ledger {core.ttp.log}, escrow epoch {core.ttp.epoch}",
        "created": _utc(core.created),
        "expires": _utc(core.expires),
        "size class": f"{core.size} octets",
        "notice": core.notice,
        "suite": core.suite.name,
        "holds": _contents(unverified),
    }
    typer.echo("This is what the bundle says; nothing was checked. Use `secmtp evidence verify` for that.\n")
    for name, value in rows.items():
        typer.echo(f"{name:>11}  {value}")


def _read(path: Path) -> AnyBundle | RefusalFile:
    data = read_bounded(path, bundles.MAX_BUNDLE)
    kind = canonical.decode(data, what="bundle", limit=bundles.MAX_BUNDLE).get("kind")
    return refusals.decode(data) if kind == refusals.KIND else bundles.decode_any(data)


def _refused(file: RefusalFile, root: TrustRoot, policy: Policy | None) -> dict[str, Any]:
    """Say what a refusal file is worth: never a receipt, and no word about whether there is one."""
    try:
        verified = refusals.verify(file, root, policy)
    except EvidenceFault as fault:
        return {"valid": False, "step": fault.step, "reason": fault.reason, **_names(file)}
    reason = "a refusal is no receipt, and doesn't say whether there is one"
    result = {"valid": False, "step": "receipt.completion", "reason": reason, **_names(file)}
    return {**result, "outcome": "REFUSED", "time": verified.inclusion.time}


def _check_content(receipt: Receipt, bundle: AnyBundle, message: Path | None) -> None:
    if message is None:
        return
    if bundle.openings is None:
        raise EvidenceFault("openings.missing", "the bundle has no openings, so it can't prove a content")
    verify_content(receipt, bundle.openings, _pieces(message))


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            yield piece


def _facts(receipt: Receipt, *, content: bool) -> dict[str, Any]:
    core = receipt.manifest.core
    return {
        "valid": True,
        "outcome": "COMPLETED",
        **_core_names(core.sender.address, core.recipient.address, receipt.manifest.exchange),
        "mode": core.mode,
        "answers": receipt.answers,
        "time": receipt.time,
        "carried_by": receipt.carried_by,
        "log": core.ttp.log,
        "index": receipt.inclusion.index,
        "tree_size": receipt.inclusion.checkpoint.size,
        "witnessed": str(receipt.inclusion.witnessing),
        "content": "proven" if content else "not checked",
    }


def _no_trade(bundle: AnyBundle, root: TrustRoot, policy: Policy | None) -> dict[str, Any]:
    """Say so when a bundle that is no receipt is sound evidence that no trade happened."""
    if isinstance(bundle, DirectBundle):
        return {}
    try:
        verified: NoTrade = verify_no_trade(bundle, root, policy)
    except SecMTPError:
        return {}
    return {"outcome": verified.refusal.outcome, "time": verified.refusal.time}


def _names(bundle: AnyBundle | RefusalFile) -> dict[str, str]:
    core = bundle.manifest.core
    return _core_names(core.sender.address, core.recipient.address, bundle.manifest.exchange)


def _core_names(sender: str, recipient: str, exchange: bytes) -> dict[str, str]:
    return {"exchange": exchange.hex(), "sender": sender, "recipient": recipient}


def _finish(result: dict[str, Any], code: int, *, as_json: bool) -> NoReturn:
    typer.echo(json.dumps(result, ensure_ascii=False) if as_json else _sentence(result))
    raise typer.Exit(code)


def _sentence(result: dict[str, Any]) -> str:
    if not result["valid"]:
        first = f"NOT VALID at step {result['step']}: {result['reason']}"
        return first + _sound(result.get("outcome"))
    when = "anchored" if result["carried_by"].endswith("anchored") else "traded"
    return (
        f"VALID receipt for exchange {result['exchange']}\n"
        f"  from       {result['sender']}\n"
        f"  to         {result['recipient']}\n"
        f"  answers    {result['answers']}\n"
        f"  {when:<9}  {_utc(result['time'])}, mode {result['mode']}, carried by {result['carried_by']}\n"
        f"  ledger     {result['log']}, entry {result['index']} of {result['tree_size']}\n"
        f"  witnessed: {result['witnessed']}\n"
        f"  content    {result['content']}"
    )


def _sound(outcome: str | None) -> str:
    if outcome is None:
        return ""
    what = "the recipient didn't want to sign then" if outcome == "REFUSED" else "no trade happened"
    return f"\nIt is sound evidence of {outcome}: {what}."


def _contents(bundle: AnyBundle | RefusalFile) -> str:
    if isinstance(bundle, RefusalFile):
        return "NRO, the recipient's REFUSE, its anchor"
    if isinstance(bundle, DirectBundle):
        parts = ["NRO", "NRR", "ACK", "their anchor" if bundle.anchor else "no anchor yet"]
    else:
        statements = [*(["NRR"] if bundle.nrr else []), *(["the sender's ABORT"] if bundle.abort else [])]
        parts = ["NRO", *statements, "the TTP's token", "proof of inclusion"]
    if bundle.openings:
        parts.append("openings (with the ciphertext they open the message: keep it confidential)")
    return ", ".join(parts)


def _utc(seconds: int) -> str:
    from datetime import UTC, datetime  # noqa: PLC0415  (most calls don't print a time)

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
