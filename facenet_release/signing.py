r"""``model.sig``: the signature over all other files of a release, by a key. Uses no network.

The format is OpenSSF's model signing v1.0: a Sigstore bundle whose payload lists each file with
its SHA-256. Any tool that knows it can verify ours::

    model_signing verify key FOLDER --signature FOLDER/model.sig --public_key release.pub

Keys are elliptic curve keys in PEM files, P-256, P-384 or P-521. OpenSSL makes them; here it
encrypts the private one with a password, which is then needed to sign too::

    export FACENET_SIGNING_PASSWORD=…
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 \
        -aes256 -pass env:FACENET_SIGNING_PASSWORD -out release.key
    openssl pkey -in release.key -passin env:FACENET_SIGNING_PASSWORD -pubout -out release.pub

model-signing 1.1.1 leaves out git's files by default, ignores on verifying what the signature
tells it to ignore, and takes older formats with a warning. None of that is wanted here: a
signature must cover each file, and be of the one form that `sign` writes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from facenet_common.atomic import write_file
from facenet_common.errors import UsageError
from facenet_common.hashing import sha256_file
from facenet_common.text import one_line
from facenet_release.documents.canonical_json import at, read
from facenet_release.documents.manifest import MAX_BYTES, SIGNATURE
from facenet_release.errors import CheckFailedError, ReleaseError

PASSWORD = "FACENET_SIGNING_PASSWORD"
CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
MAX_KEY_BYTES = 64 << 10  # a key has 1 kB

_KINDS = f"an elliptic curve key, {', '.join(CURVES.values())}, in a PEM file"
_OPENSSL = {
    "private": "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out release.key",
    "public": "openssl pkey -in release.key -pubout -out release.pub",
}
# The form of a signature, without what differs between releases.
_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_COVERED = {
    "method": "files",
    "hash_type": "sha256",
    "allow_symlinks": False,
    "ignore_paths": [SIGNATURE],
}


def password(environment: Mapping[str, str] = os.environ) -> bytes | None:
    """The private key's password. It comes from the environment only: arguments can be seen."""
    value = environment.get(PASSWORD)
    return value.encode() if value else None


def sign(folder: Path, private_key: Path, password: bytes | None = None) -> Path:
    """Sign every file in `folder` but the signature, which is replaced; returns its path.

    Raises:
        UsageError: There is no such folder, or no such key; the key is of another kind, or
            encrypted, and `password` is missing or wrong.
        ReleaseError: model-signing is not installed, or the folder holds what can't be signed.
        OutputError: The signature can't be written. An older one is left as it was.
    """
    folder = _folder(folder)
    library = _library("signing")
    _check_key("private", private_key, lambda pem: _load_private(pem, password))
    # cryptography, to which the library hands the password, wants bytes, whatever it says itself.
    config = library.Config().use_elliptic_key_signer(private_key=private_key, password=password)
    with TemporaryDirectory() as elsewhere:  # what is written into the folder would be signed
        made = Path(elsewhere) / SIGNATURE
        try:
            config.set_hashing_config(_every_file()).sign(folder, made)
        except (ValueError, OSError) as error:
            raise ReleaseError(
                "the folder can't be signed", file=folder, found=one_line(error)
            ) from error
        write_file(folder / SIGNATURE, made.read_bytes())
    return folder / SIGNATURE


def verify(folder: Path, public_key: Path) -> None:
    """Check that the key's owner signed every file in `folder` as it is now, and no other.

    Raises:
        CheckFailedError: There is no signature, it is damaged or another key's, or a file was
            altered, added or removed since.
        UsageError: There is no such folder, or no such key, or it is of another kind.
        ReleaseError: model-signing is not installed.
    """
    folder = _folder(folder)
    library = _library("verifying")
    from cryptography.exceptions import InvalidSignature

    hint = _check_key("public", public_key, _load_public)
    signed = _signed(folder, hint)
    config = library.Config().use_elliptic_key_verifier(public_key=public_key)
    try:
        config.set_hashing_config(_every_file()).verify(folder, folder / SIGNATURE)
    except InvalidSignature as error:
        raise _failed(
            folder, ["the signature is not this key's: it was altered, or forged"]
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        # The library checks the signature before it looks at files.
        findings = _differences(folder, signed) or [one_line(error)[:500]]
        raise _failed(folder, findings) from error


def _folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise UsageError("there is no such folder", file=folder)
    return folder.resolve()


def _library(module: str) -> Any:
    """A module of model-signing.

    Importing it needs all that it lists, Sigstore's client included, though signing by key does
    not use that; and pyOpenSSL, which it doesn't list.
    """
    try:
        return import_module(f"model_signing.{module}")
    except ImportError as error:
        raise ReleaseError(
            "signatures need model-signing and pyOpenSSL, which are not both installed",
            expected="model-signing, pyopenssl",
            found=f"no {error.name}" if error.name else one_line(error),
            next_step="pip install 'facenet-parity[release]'",
        ) from error


def _every_file() -> Any:
    """What is hashed: every file of a folder but its signature; links are refused."""
    config = import_module("model_signing.hashing").Config()
    return config.set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def _check_key(kind: str, path: Path, load: Callable[[bytes], Any]) -> str:
    """The SHA-256 of the public part of a key, as PEM, once the key is known to be of use."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        with path.open("rb") as file:
            pem = file.read(MAX_KEY_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"the {kind} key can't be read",
            file=path,
            found=error.strerror,
            next_step=f"make one: {_OPENSSL[kind]}",
        ) from error
    private = b"PRIVATE KEY-----" in pem
    try:
        if len(pem) > MAX_KEY_BYTES:
            raise ValueError
        key = load(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(
            f"this is no {kind} key",
            file=path,
            expected=_KINDS,
            found="a private key" if private and kind == "public" else _shown(pem),
            next_step=f"make one: {_OPENSSL[kind]}",
        ) from error
    public = key if kind == "public" else key.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name not in CURVES:
        raise UsageError(
            f"the {kind} key is of a kind that can't be used",
            file=path,
            expected=_KINDS,
            found=getattr(getattr(public, "curve", None), "name", type(public).__name__),
            next_step=f"make one: {_OPENSSL[kind]}",
        )
    form = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(form).hexdigest()


def _load_public(pem: bytes) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    return load_pem_public_key(pem)


def _load_private(pem: bytes, password: bytes | None) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(pem, password)
    except TypeError as error:  # the key is encrypted and there is no password, or the reverse
        raise UsageError(
            "the private key is encrypted, and there is no password"
            if password is None
            else "there is a password, but the private key is not encrypted",
            next_step=f"{'' if password is None else 'un'}set {PASSWORD}",
        ) from error
    except ValueError as error:
        if password is not None and b"ENCRYPTED" in pem:
            raise UsageError(
                "the private key can't be decrypted",
                next_step=f"check the password in {PASSWORD}; if it is right, the file is damaged",
            ) from error
        raise


def _shown(pem: bytes) -> str:
    """What a file that is no key says it is; nothing more of it, it may be secret."""
    first = pem.lstrip()[:200].split(b"\n")[0].decode("ascii", "replace").strip()
    return first if first.startswith("-----BEGIN ") else f"{len(pem)} bytes without a PEM header"


def _signed(folder: Path, hint: str) -> dict[str, str]:
    """The files that the signature covers, as it says itself, with their SHA-256.

    What this returns is not to be trusted before the signature is verified. Raises
    CheckFailedError unless it is of the form that `sign` writes, and claims to be this key's.
    """
    bundle = read(_signature(folder), SIGNATURE)
    key = at(bundle, "verificationMaterial", "publicKey", "hint")
    envelope = at(bundle, "dsseEnvelope")
    signatures = at(envelope, "signatures")
    if (
        bundle.get("mediaType") != _BUNDLE
        or not isinstance(key, str)
        or at(envelope, "payloadType") != _PAYLOAD
        or not isinstance(signatures, list)
        or len(signatures) != 1
    ):
        raise _failed(folder, ["the signature is damaged, or of another form than ours"])
    if key != hint:
        raise _failed(
            folder, [f"signed with another key: {one_line(key)[:64]}, not this one, {hint}"]
        )
    try:
        payload = read(base64.b64decode(at(envelope, "payload"), validate=True), SIGNATURE)
        rows = [(row["name"], row["digest"]) for row in at(payload, "predicate", "resources")]
        signed = dict(rows)
    except (ValueError, TypeError, KeyError, CheckFailedError) as error:
        raise _failed(folder, ["the signature's payload is damaged"]) from error
    if (
        payload.get("_type") != _STATEMENT
        or payload.get("predicateType") != _PREDICATE
        or at(payload, "predicate", "serialization") != _COVERED
        or len(signed) != len(rows)
        or not all(isinstance(text, str) for row in rows for text in row)
    ):
        said = one_line(json.dumps(at(payload, "predicate", "serialization")))[:300]
        raise _failed(folder, [f"the signature need not cover all files: it says {said}"])
    return signed


def _signature(folder: Path) -> bytes:
    path = folder / SIGNATURE
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise _failed(folder, ["the signature is no plain file"])
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise _failed(folder, ["there is no signature"]) from error
    except OSError as error:
        raise _failed(folder, [f"the signature can't be read: {error.strerror}"]) from error


def _differences(folder: Path, signed: Mapping[str, str]) -> list[str]:
    """How the files in `folder` differ from those signed."""
    there = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path != folder / SIGNATURE and (path.is_symlink() or not path.is_dir())
    }
    findings = []
    for name in sorted(there.keys() | signed.keys()):
        shown = one_line(name)[:200]
        if name not in there:
            findings.append(f"{shown}: signed, but missing")
        elif name not in signed:
            findings.append(f"{shown}: not signed")
        elif there[name].is_symlink() or not there[name].is_file():
            findings.append(f"{shown}: no plain file")
        elif sha256_file(there[name]) != signed[name]:
            findings.append(f"{shown}: altered since it was signed")
    return findings


def _failed(folder: Path, findings: list[str]) -> CheckFailedError:
    return CheckFailedError(
        "the release's signature does not hold", findings, file=folder / SIGNATURE
    )
