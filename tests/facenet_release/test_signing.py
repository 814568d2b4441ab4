"""Signatures: over every file, by one key, without a network."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("OpenSSL", reason='pip install "facenet-parity[release]"')
pytest.importorskip("model_signing", reason='pip install "facenet-parity[release]"')

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from publishing import Tiny, write_keys

from facenet_common.errors import MissingPackageError, UsageError
from facenet_release import signing
from facenet_release.documents.manifest import PROVENANCE, SIGNATURE
from facenet_release.errors import CheckFailedError, ReleaseError
from facenet_release.signing import PASSWORD, password, sign, verify


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Connections to other machines fail in every test of this module."""
    tried: list[object] = []

    def refuse(*arguments: object, **_: object) -> None:
        tried.append(arguments)
        raise OSError("the network is switched off")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield
    assert not tried


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """A private and a public key that fit."""
    private = write_keys(tmp_path)
    return private, private.with_suffix(".pub")


@pytest.fixture
def signed(tiny_release: Tiny, keys: tuple[Path, Path]) -> Path:
    """A release with all its files, signed."""
    folder, _ = tiny_release
    (folder / PROVENANCE).write_text("{}\n")
    sign(folder, keys[0])
    return folder


def findings(folder: Path, public: Path) -> list[str]:
    with pytest.raises(CheckFailedError) as caught:
        verify(folder, public)
    assert caught.value.exit_code == 1
    assert str(folder / SIGNATURE) in str(caught.value)
    return list(caught.value.findings)


def payload_of(folder: Path) -> dict[str, Any]:
    bundle = json.loads((folder / SIGNATURE).read_text())
    return dict(json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"])))


def test_every_file_is_covered(signed: Path, keys: tuple[Path, Path]) -> None:
    verify(signed, keys[1])
    covered = {row["name"]: row["digest"] for row in payload_of(signed)["predicate"]["resources"]}
    there = {path.name: path for path in signed.iterdir() if path.name != SIGNATURE}
    assert covered == {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in there.items()
    }
    assert PROVENANCE in covered


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_every_curve(curve: ec.EllipticCurve, signed: Path, tmp_path: Path) -> None:
    private = write_keys(tmp_path, ec.generate_private_key(curve), name=curve.name)
    sign(signed, private)
    verify(signed, private.with_suffix(".pub"))


def test_each_file_that_is_altered_shows(signed: Path, keys: tuple[Path, Path]) -> None:
    for path in sorted(signed.iterdir()):
        if path.name == SIGNATURE:
            continue
        before = path.read_bytes()
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        assert findings(signed, keys[1]) == [f"{path.name}: altered since it was signed"]
        path.unlink()
        assert findings(signed, keys[1]) == [f"{path.name}: signed, but missing"]
        path.write_bytes(before)
    verify(signed, keys[1])


@pytest.mark.parametrize("name", ["extra.pt", ".hidden", ".gitignore", ".gitattributes", "a/b"])
def test_a_file_that_was_added_shows(name: str, signed: Path, keys: tuple[Path, Path]) -> None:
    (signed / name).parent.mkdir(exist_ok=True)
    (signed / name).write_text("")
    assert findings(signed, keys[1]) == [f"{name}: not signed"]


def test_files_of_gits_are_signed_too(signed: Path, keys: tuple[Path, Path]) -> None:
    (signed / ".gitattributes").write_text("*.pt filter=lfs\n")
    sign(signed, keys[0])
    verify(signed, keys[1])
    (signed / ".gitattributes").write_text("")
    assert findings(signed, keys[1]) == [".gitattributes: altered since it was signed"]


def test_links_and_pipes_are_refused(signed: Path, keys: tuple[Path, Path]) -> None:
    weights = signed / "pnet.pt"
    weights.rename(signed.parent / "elsewhere.pt")
    weights.symlink_to(signed.parent / "elsewhere.pt")
    assert findings(signed, keys[1]) == ["pnet.pt: not a regular file"]
    weights.unlink()
    os.mkfifo(weights)
    assert findings(signed, keys[1]) == ["pnet.pt: not a regular file"]


def test_another_key_is_another_key(signed: Path, tmp_path: Path) -> None:
    other = write_keys(tmp_path, name="other")
    (found,) = findings(signed, other.with_suffix(".pub"))
    assert found.startswith("signed with another key")


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    bundle = json.loads((folder / SIGNATURE).read_text())
    change(bundle)
    (folder / SIGNATURE).write_text(json.dumps(bundle))


def test_a_forger_who_names_the_right_key(
    signed: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    """Signs altered files with a key of their own, and claims that it is the right one."""
    hint = json.loads((signed / SIGNATURE).read_text())["verificationMaterial"]["publicKey"]
    (signed / "pnet.pt").write_text("malicious")
    sign(signed, write_keys(tmp_path, name="own"))
    edit(signed, lambda bundle: bundle["verificationMaterial"]["publicKey"].update(hint))
    assert findings(signed, keys[1]) == [
        "the signature is not by this key: it was altered or forged"
    ]


def repack(payload: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(payload).encode()).decode()


def test_a_payload_that_was_altered(signed: Path, keys: tuple[Path, Path]) -> None:
    """The hash in it is made to fit a file that was altered."""
    (signed / "pnet.pt").write_text("malicious")
    payload = payload_of(signed)
    (row,) = [row for row in payload["predicate"]["resources"] if row["name"] == "pnet.pt"]
    row["digest"] = hashlib.sha256(b"malicious").hexdigest()
    edit(signed, lambda bundle: bundle["dsseEnvelope"].update(payload=repack(payload)))
    assert findings(signed, keys[1]) == [
        "the signature is not by this key: it was altered or forged"
    ]


def test_a_signature_that_leaves_files_out(signed: Path, keys: tuple[Path, Path]) -> None:
    """Made with the right key, by the library's own defaults and options: not enough for us."""
    from model_signing import hashing
    from model_signing import signing as library

    config = hashing.Config().set_ignored_paths(paths=[SIGNATURE, "pnet.pt"])
    library.Config().use_elliptic_key_signer(private_key=keys[0]).set_hashing_config(config).sign(
        signed, signed / SIGNATURE
    )
    (found,) = findings(signed, keys[1])
    assert "may not cover all files" in found
    assert "pnet.pt" in found


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b.pop("mediaType"),
        lambda b: b.pop("verificationMaterial"),
        lambda b: b["verificationMaterial"]["publicKey"].update(hint=None),
        lambda b: b.pop("dsseEnvelope"),
        lambda b: b["dsseEnvelope"].update(payloadType="text/plain"),
        lambda b: b["dsseEnvelope"].update(payload="%%%"),
        lambda b: b["dsseEnvelope"].update(payload=7),
        lambda b: b["dsseEnvelope"].update(payload=repack({})),
        lambda b: b["dsseEnvelope"].update(payload=base64.b64encode(b"\xff").decode()),
        lambda b: b["dsseEnvelope"].update(signatures=[]),
        lambda b: b["dsseEnvelope"].update(signatures=b["dsseEnvelope"]["signatures"] * 2),
        lambda b: b["dsseEnvelope"]["signatures"][0].update(sig="AAAA"),
        lambda b: b["dsseEnvelope"]["signatures"][0].update(sig="%"),
        lambda b: b["dsseEnvelope"]["signatures"][0].pop("sig"),
        lambda b: b.update(more={"a": 1}),
    ],
)
def test_a_signature_that_was_altered(
    change: Callable[[dict[str, Any]], object], signed: Path, keys: tuple[Path, Path]
) -> None:
    edit(signed, change)
    assert len(findings(signed, keys[1])) == 1


@pytest.mark.parametrize("field", ["_type", "predicateType"])
def test_another_kind_of_payload(field: str, signed: Path, keys: tuple[Path, Path]) -> None:
    payload = payload_of(signed) | {field: "https://model_signing/Digests/v0.1"}
    edit(signed, lambda bundle: bundle["dsseEnvelope"].update(payload=repack(payload)))
    assert "may not cover all files" in findings(signed, keys[1])[0]


@pytest.mark.parametrize(
    "damage",
    [b"", b"[]", b"{}", b"\xff\xfe", b"{" * 100_000, b'{"a": 1, "a": 2}', b" " * (17 << 20)],
    ids=["empty", "list", "object", "bytes", "deep", "twice", "long"],
)
def test_a_damaged_signature(damage: bytes, signed: Path, keys: tuple[Path, Path]) -> None:
    (signed / SIGNATURE).write_bytes(damage)
    with pytest.raises(CheckFailedError):
        verify(signed, keys[1])


def test_every_cut_is_found(signed: Path, keys: tuple[Path, Path]) -> None:
    whole = (signed / SIGNATURE).read_bytes()
    for size in range(0, len(whole), 97):
        (signed / SIGNATURE).write_bytes(whole[:size])
        with pytest.raises(CheckFailedError):
            verify(signed, keys[1])


def test_no_signature_is_no_signature(signed: Path, keys: tuple[Path, Path]) -> None:
    (signed / SIGNATURE).rename(signed.parent / SIGNATURE)
    assert findings(signed, keys[1]) == ["the signature is missing"]
    (signed / SIGNATURE).symlink_to(signed.parent / SIGNATURE)
    assert findings(signed, keys[1]) == ["the signature is not a regular file"]


def wrong_key(folder: Path, private: Path, secret: bytes | None = None) -> str:
    """The message where a private key can't be used; the older signature stays."""
    before = (folder / SIGNATURE).read_bytes()
    with pytest.raises(UsageError) as caught:
        sign(folder, private, secret)
    assert caught.value.exit_code == 2
    assert (folder / SIGNATURE).read_bytes() == before
    if secret:
        assert secret.decode() not in str(caught.value)
    return str(caught.value)


def wrong_public(folder: Path, public: Path) -> str:
    with pytest.raises(UsageError) as caught:
        verify(folder, public)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_keys_of_other_kinds(signed: Path, tmp_path: Path) -> None:
    for name, key in (
        ("rsa", rsa.generate_private_key(65537, 2048)),
        ("ed25519", ed25519.Ed25519PrivateKey.generate()),
        ("secp256k1", ec.generate_private_key(ec.SECP256K1())),
    ):
        private = write_keys(tmp_path, key, name=name)
        said = (wrong_key(signed, private), wrong_public(signed, private.with_suffix(".pub")))
        assert all("has an unsupported type" in text and "P-256" in text for text in said)
        assert all(name in text.lower() for text in said)


def test_files_that_are_no_keys(signed: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    assert "can't be read" in wrong_key(signed, tmp_path / "absent")
    assert "openssl genpkey" in wrong_key(signed, tmp_path / "absent")
    assert "can't be read" in wrong_public(signed, tmp_path)
    (tmp_path / "text").write_text("secret words")
    for said in (wrong_key(signed, tmp_path / "text"), wrong_public(signed, tmp_path / "text")):
        assert "12 bytes without a PEM header" in said
        assert "secret words" not in said
    assert "a private key" in wrong_public(signed, private)
    assert "BEGIN PUBLIC KEY" in wrong_key(signed, public)
    (tmp_path / "cut").write_bytes(private.read_bytes()[:90])
    assert "is not a private key" in wrong_key(signed, tmp_path / "cut")
    (tmp_path / "large").write_bytes(private.read_bytes() + b"\n" * (1 << 20))
    assert "is not a private key" in wrong_key(signed, tmp_path / "large")


def test_encrypted_keys(signed: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    private = write_keys(tmp_path, secret=b"correct", name="locked")
    assert f"set {PASSWORD}" in wrong_key(signed, private)
    assert "can't be decrypted" in wrong_key(signed, private, b"horse")
    assert f"unset {PASSWORD}" in wrong_key(signed, keys[0], b"needless")
    sign(signed, private, b"correct")
    verify(signed, private.with_suffix(".pub"))


def test_the_password_comes_from_the_environment() -> None:
    assert password({PASSWORD: "wörd"}) == "wörd".encode()
    assert password({PASSWORD: ""}) is None
    assert password({}) is None


def test_what_can_not_be_signed(signed: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    before = (signed / SIGNATURE).read_bytes()
    (signed / "link").symlink_to(signed / "pnet.pt")
    with pytest.raises(ReleaseError, match="can't be signed"):
        sign(signed, keys[0])
    assert (signed / SIGNATURE).read_bytes() == before
    for call in (sign, verify):
        with pytest.raises(UsageError, match="folder does not exist"):
            call(tmp_path / "absent", keys[0])


def test_the_library_is_loaded_late_and_named_if_absent(
    signed: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import sys, facenet_release.signing;"
        "print([m for m in sys.modules if m.split('.')[0] in ('model_signing', 'sigstore')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    for module, call, key in (("signing", sign, keys[0]), ("verifying", verify, keys[1])):
        monkeypatch.setitem(sys.modules, f"model_signing.{module}", None)
        with pytest.raises(MissingPackageError, match=r"facenet-parity\[release\]"):
            call(signed, key)


def test_without_any_network(signed: Path, keys: tuple[Path, Path]) -> None:
    """In a network namespace of its own, which has no interface that is up."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare")
    alone = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("namespaces are not permitted here")
    code = (
        "import sys, pathlib as p; from facenet_release.signing import sign, verify\n"
        "sign(p.Path(sys.argv[1]), p.Path(sys.argv[2])); verify(p.Path(sys.argv[1]), "
        "p.Path(sys.argv[3]))"
    )
    command = [*alone, sys.executable, "-c", code, str(signed), *map(str, keys)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_others_can_verify_it(signed: Path, keys: tuple[Path, Path]) -> None:
    """The command that the module's text names, of model-signing itself."""
    text = signing.__doc__ or ""
    (line,) = [line for line in text.splitlines() if line.startswith("    model_signing verify")]
    said = line.replace("FOLDER", str(signed)).replace("release.pub", str(keys[1])).split()
    command = [sys.executable, "-m", "model_signing", *said[1:]]
    assert subprocess.run(command, capture_output=True).returncode == 0
    (signed / "pnet.pt").write_text("x")
    assert subprocess.run(command, capture_output=True).returncode != 0


def test_openssl_makes_keys(signed: Path, tmp_path: Path) -> None:
    """With the commands that the module's text names."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl")
    text = (signing.__doc__ or "").replace("\\\n", " ")
    commands = [line.split() for line in text.splitlines() if line.startswith("    openssl")]
    assert len(commands) == 2
    environment = os.environ | {PASSWORD: "correct"}
    for command in commands:
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    sign(signed, tmp_path / "release.key", password(environment))
    verify(signed, tmp_path / "release.pub")
