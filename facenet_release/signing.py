r"""``model.sig``: the signature of a key over all other files of a release; needs no network.

The format is OpenSSF's model signing v1.0: a Sigstore bundle whose payload lists each file with
its SHA-256. Any tool that supports it can verify these signatures::

    model_signing verify key FOLDER --signature FOLDER/model.sig --public_key release.pub

Keys are elliptic-curve keys in PEM files, P-256, P-384 or P-521. OpenSSL makes them; these commands
encrypt the private key with a password, which `sign` then needs too::

    export FACENET_SIGNING_PASSWORD=…
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 \
        -aes256 -pass env:FACENET_SIGNING_PASSWORD -out release.key
    openssl pkey -in release.key -passin env:FACENET_SIGNING_PASSWORD -pubout -out release.pub

By default model-signing 1.1.1 ignores git's files, ignores the files that a signature lists as
ignored, and accepts older formats with a warning
(https://github.com/sigstore/model-transparency). This module does not: a signature must cover
every file and have the one form that `sign` writes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from facenet_common.atomic import write_file
from facenet_common.errors import UsageError
from facenet_common.hashing import sha256_file
from facenet_common.optional import require
from facenet_common.text import one_line
from facenet_release.documents.canonical_json import parse_object, value_at
from facenet_release.documents.manifest import MAX_BYTES, SIGNATURE
from facenet_release.errors import CheckFailedError, ReleaseError

PASSWORD = "FACENET_SIGNING_PASSWORD"
CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
MAX_KEY_BYTES = 64 << 10  # a key has 1 kB

_KINDS = f"an elliptic-curve key, {', '.join(CURVES.values())}, in a PEM file"
_OPENSSL = {
    "private": "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out release.key",
    "public": "openssl pkey -in release.key -pubout -out release.pub",
}
# The parts of a signature that are the same for every release.
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
    """Return the private key's password, or None.

    It comes from the environment only, because other users can see a command's arguments.

    Examples:
        >>> password({"FACENET_SIGNING_PASSWORD": "x"})
        b'x'
    """
    value = environment.get(PASSWORD)
    return value.encode() if value else None


def sign(folder: Path, private_key: Path, password: bytes | None = None) -> Path:
    """Sign every file in a folder, except the signature, which is replaced.

    Args:
        folder: The folder.
        private_key: The private key, a PEM file.
        password: Its password, if it is encrypted.

    Returns:
        The path of the signature.

    Raises:
        UsageError: The folder or the key does not exist, the key has an unsupported type, or its
            password is missing or wrong.
        MissingPackageError: model-signing or pyOpenSSL is not installed.
        ReleaseError: The folder has a file that can't be signed, such as a link.
        OutputError: The signature can't be written. An older one is unchanged.

    Examples:
        >>> sign(Path("dist"), Path("key.pem"))  # doctest: +SKIP
        PosixPath('dist/model.sig')
    """
    folder = _folder(folder)
    library = _library("signing")
    _check_key("private", private_key, lambda pem: _load_private(pem, password))
    # The library declares a string, and passes it to cryptography, which needs bytes.
    config = library.Config().use_elliptic_key_signer(private_key=private_key, password=password)
    with TemporaryDirectory() as elsewhere:  # a file in the folder would be signed too
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
    """Check that the key's owner signed the files in a folder as they are now.

    Args:
        folder: The folder.
        public_key: The public key, a PEM file.

    Raises:
        CheckFailedError: The signature is missing, damaged or of another key, or a file was
            altered, added or removed since. It lists all findings.
        UsageError: The folder or the key does not exist, or the key has an unsupported type.
        MissingPackageError: model-signing or pyOpenSSL is not installed.

    Examples:
        >>> verify(Path("dist"), Path("key.pub"))  # doctest: +SKIP
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
            folder, ["the signature is not by this key: it was altered or forged"]
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        # The library has checked the signature, then failed at a file.
        findings = _differences(folder, signed) or [one_line(error)[:500]]
        raise _failed(folder, findings) from error


def _folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise UsageError("the folder does not exist", file=folder)
    return folder.resolve()


def _library(module: str) -> Any:
    """Import a module of model-signing, which also needs pyOpenSSL and does not declare it.

    https://github.com/sigstore/model-transparency
    """
    require("OpenSSL", "a signature")
    return require(f"model_signing.{module}", "a signature")


def _every_file() -> Any:
    """Return the configuration that hashes every file except the signature, and refuses links."""
    config = _library("hashing").Config()
    return config.set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def _check_key(kind: str, path: Path, load: Callable[[bytes], Any]) -> str:
    """Check a key; return the SHA-256 of its public part as PEM. Raises UsageError."""
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
            f"the file is not a {kind} key",
            file=path,
            expected=_KINDS,
            found="a private key" if private and kind == "public" else _first_line(pem),
            next_step=f"make one: {_OPENSSL[kind]}",
        ) from error
    public = key if kind == "public" else key.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name not in CURVES:
        raise UsageError(
            f"the {kind} key has an unsupported type",
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
    except TypeError as error:  # an encrypted key without a password, or the reverse
        raise UsageError(
            "the private key is encrypted and needs a password"
            if password is None
            else "a password is set, but the private key is not encrypted",
            next_step=f"{'' if password is None else 'un'}set {PASSWORD}",
        ) from error
    except ValueError as error:
        if password is not None and b"ENCRYPTED" in pem:
            raise UsageError(
                "the private key can't be decrypted",
                next_step=f"check the password in {PASSWORD}; if it is right, the file is damaged",
            ) from error
        raise


def _first_line(pem: bytes) -> str:
    """Return the PEM header of a file that is not a key; the rest may be secret."""
    first = pem.lstrip()[:200].split(b"\n")[0].decode("ascii", "replace").strip()
    return first if first.startswith("-----BEGIN ") else f"{len(pem)} bytes without a PEM header"


def _signed(folder: Path, hint: str) -> dict[str, str]:
    """Return the names and hashes of the files that the signature lists; it is not verified yet.

    Raises CheckFailedError unless it has the form that `sign` writes and names this key.
    """
    bundle = parse_object(_signature(folder), SIGNATURE)
    key = value_at(bundle, "verificationMaterial", "publicKey", "hint")
    envelope = value_at(bundle, "dsseEnvelope")
    signatures = value_at(envelope, "signatures")
    if (
        bundle.get("mediaType") != _BUNDLE
        or not isinstance(key, str)
        or value_at(envelope, "payloadType") != _PAYLOAD
        or not isinstance(signatures, list)
        or len(signatures) != 1
    ):
        raise _failed(folder, ["the signature is damaged or has an unsupported form"])
    if key != hint:
        raise _failed(
            folder, [f"signed with another key: expected {hint}, found {one_line(key)[:64]}"]
        )
    try:
        payload = parse_object(
            base64.b64decode(value_at(envelope, "payload"), validate=True), SIGNATURE
        )
        rows = [(row["name"], row["digest"]) for row in value_at(payload, "predicate", "resources")]
        signed = dict(rows)
    except (ValueError, TypeError, KeyError, CheckFailedError) as error:
        raise _failed(folder, ["the signature's payload is damaged"]) from error
    if (
        payload.get("_type") != _STATEMENT
        or payload.get("predicateType") != _PREDICATE
        or value_at(payload, "predicate", "serialization") != _COVERED
        or len(signed) != len(rows)
        or not all(isinstance(text, str) for row in rows for text in row)
    ):
        found = one_line(json.dumps(value_at(payload, "predicate", "serialization")))[:300]
        raise _failed(folder, [f"the signature may not cover all files: {found}"])
    return signed


def _signature(folder: Path) -> bytes:
    path = folder / SIGNATURE
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise _failed(folder, ["the signature is not a regular file"])
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise _failed(folder, ["the signature is missing"]) from error
    except OSError as error:
        raise _failed(folder, [f"the signature can't be read: {error.strerror}"]) from error


def _differences(folder: Path, signed: Mapping[str, str]) -> list[str]:
    """Return how the files in the folder differ from those that were signed."""
    present = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path != folder / SIGNATURE and (path.is_symlink() or not path.is_dir())
    }
    findings = []
    for name in sorted(present.keys() | signed.keys()):
        label = one_line(name)[:200]
        if name not in present:
            findings.append(f"{label}: signed, but missing")
        elif name not in signed:
            findings.append(f"{label}: not signed")
        elif present[name].is_symlink() or not present[name].is_file():
            findings.append(f"{label}: not a regular file")
        elif sha256_file(present[name]) != signed[name]:
            findings.append(f"{label}: altered since it was signed")
    return findings


def _failed(folder: Path, findings: list[str]) -> CheckFailedError:
    return CheckFailedError("the signature is not valid", findings, file=folder / SIGNATURE)
