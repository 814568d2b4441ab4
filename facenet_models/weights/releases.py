"""Releases as a source of weights: a folder, an address over HTTP, an artifact in a registry.

``FACENET_WEIGHTS`` names the place. If it is a release, the sizes and SHA-256 of its files are
those of its ``manifest.json`` (schema ``facenet-parity/release/1``). The manifest is untrusted: one
that is damaged, or contradicted by something beside it, is an error, never a reason to look
elsewhere.

Downloads are cached in a folder for each place, because the same name may mean another file
elsewhere; the hash is kept beside the file, and the manifest is not requested again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from facenet_common.errors import UsageError, WeightsError
from facenet_models.weights import oci
from facenet_models.weights.cache import (
    Check,
    cache_folder,
    fetch,
    note_of,
    ready,
    recorded,
    require_hash,
    verify,
)
from facenet_models.weights.download import read
from facenet_models.weights.http import AbsentError, Source, failed
from facenet_models.weights.manifest import MANIFEST, MAX_MANIFEST, SUMS, Entry, damaged, parse

PLACE = "FACENET_WEIGHTS"
AGAIN = "get it again from where the folder is from"
SUFFIXES = (".pt", ".safetensors")  # the second serves where the first is absent


def find_at(place: str, name: str, *, check: Check, progress: bool = True) -> Path | None:
    """Return the weight file `name` of `place`, checked, on this machine; None if it has none.

    Args:
        place: The value of ``FACENET_WEIGHTS``.
        name: The file's name, which ends with ``.pt``; ``.safetensors`` will do.
        check: As of `facenet_models.weights.cache.fetch`, for files of which no hash is known.
        progress: Show a progress bar on standard error.

    Raises:
        UsageError: `place` is not a folder or an address.
        WeightsError: A file or manifest in the folder is not what it should be.
        DownloadError: What comes over the network is not, or can't be had.
    """
    start = place.lower()
    if start.startswith(("http://", "https://")):
        return _over_network(_Web(place), name, check, progress)
    if start.startswith(oci.SCHEME):
        return _over_network(_Artifact(oci.parse(place)), name, check, progress)
    folder = Path(place).expanduser()
    if not folder.is_dir():
        raise UsageError(
            f"{PLACE} is not a folder or an address",
            expected="a folder, or an address that begins with https:// or oci://",
            found=folder,
        )
    return find_in(folder, name)


def named(name: str) -> str:
    """Return every name that the weight file `name` may have."""
    return " or ".join(Path(name).with_suffix(suffix).name for suffix in SUFFIXES)


def _agree(name: str, hashes: Mapping[str, str | None]) -> str | None:
    """Return the hash, if all that are known agree. The keys of `hashes` name their sources."""
    known = {source: sha256 for source, sha256 in hashes.items() if sha256 is not None}
    if len(set(known.values())) > 1:
        (first, expected), *others = known.items()
        second, found = next(other for other in others if other[1] != expected)
        raise WeightsError(
            f"the hashes of {name} contradict each other",
            expected=f"{expected} ({first})",
            found=f"{found} ({second})",
            next_step="find out which of the two was altered, and delete or replace it",
        )
    return next(iter(known.values()), None)


# --- A folder -------------------------------------------------------------------------------------


def find_in(folder: Path, name: str, suffixes: Sequence[str] = SUFFIXES) -> Path | None:
    """Return the weight file `name` in `folder`, with the first of `suffixes` that is there.

    It is checked against the folder's ``manifest.json``, ``SHA256SUMS`` and ``NAME.sha256``, where
    these exist. None: there is no such file.

    Raises:
        WeightsError: The file is not what they say, they contradict each other, the manifest is
            damaged, or it does not name the file.
    """
    manifest = folder / MANIFEST
    entries = _read_manifest(manifest)
    unnamed = None
    for suffix in suffixes:
        file = (folder / name).with_suffix(suffix)
        if not file.is_file():
            continue
        entry = entries.get(file.name) if entries is not None else None
        if entries is not None and entry is None:
            unnamed = unnamed or file
            continue
        sources = {
            str(manifest): entry.sha256 if entry else None,
            str(folder / SUMS): recorded(file, SUMS),
            str(note_of(file)): recorded(file),
        }
        sha256 = _agree(file.name, sources)
        if entry is not None and file.stat().st_size != entry.size:
            raise WeightsError(
                "the weight file is not the one it should be: its size is wrong",
                file=file,
                expected=f"{entry.size} bytes",
                found=f"{file.stat().st_size} bytes",
                next_step=AGAIN,
            )
        return verify(file, sha256=sha256, advice=AGAIN) if sha256 else file
    if unnamed is not None:
        raise WeightsError(
            "the manifest of the release does not name the weight file",
            file=unnamed,
            next_step=f"take it out of the folder, or {manifest} if the folder is no release",
        )
    return None


def _read_manifest(manifest: Path) -> dict[str, Entry] | None:
    """Return the files of the folder's manifest; None if there is none."""
    try:
        with manifest.open("rb") as opened:
            data = opened.read(MAX_MANIFEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise damaged(manifest, error.strerror or str(error)) from error
    if len(data) > MAX_MANIFEST:
        raise damaged(manifest, f"more than {MAX_MANIFEST} bytes")
    sources = {
        str(manifest): hashlib.sha256(data).hexdigest(),
        str(manifest.with_name(SUMS)): recorded(manifest, SUMS),
    }
    _agree(MANIFEST, sources)
    return parse(data, manifest)


# --- The network ----------------------------------------------------------------------------------


class _Remote(Protocol):
    """A place on another machine."""

    @property
    def address(self) -> str:
        """The address, as the user wrote it."""

    def files(self) -> Mapping[str, Entry] | None:
        """Request the list of files; None if the place has none."""

    def source(self, name: str) -> Source:
        """Return the address of the file of that name."""


class _Web:
    """A folder on a web server."""

    def __init__(self, address: str) -> None:
        self.address = address

    def files(self) -> dict[str, Entry] | None:
        source = self.source(MANIFEST)
        try:
            data = read(source._replace(limit=MAX_MANIFEST))
        except AbsentError:
            return None
        return _downloaded(source.url, data)

    def source(self, name: str) -> Source:
        return Source(f"{self.address.rstrip('/')}/{name}")


class _Artifact:
    """An artifact in a registry. The layers in its manifest have hashes, and names as titles."""

    def __init__(self, address: oci.Address) -> None:
        self.address = str(address)
        self._registry = oci.Registry(address)
        self._blobs: dict[str, Entry] = {}

    def files(self) -> dict[str, Entry]:
        layers = self._blobs = self._registry.files(self._registry.manifest())
        if MANIFEST not in layers:
            return layers
        source = self.source(MANIFEST)
        data = read(source._replace(limit=MAX_MANIFEST))
        require_hash(source.url, layers[MANIFEST].sha256, hashlib.sha256(data).hexdigest())
        files = _downloaded(source.url, data)
        for name in files.keys() & layers.keys():
            if files[name] != layers[name]:
                raise failed(
                    f"the hashes of {name} contradict each other",
                    self._registry.address.manifest,
                    expected=f"{files[name].sha256}, {files[name].size} bytes ({MANIFEST})",
                    found=f"{layers[name].sha256}, {layers[name].size} bytes (layer)",
                )
        return {name: entry for name, entry in files.items() if name in layers}

    def source(self, name: str) -> Source:
        return self._registry.source(self._blobs[name])


def _downloaded(url: str, data: bytes) -> dict[str, Entry]:
    """Return `parse`; raise DownloadError instead of WeightsError."""
    try:
        return parse(data, url)
    except WeightsError as error:
        raise failed(error.problem, url, expected=error.expected, found=error.found) from error


def _over_network(remote: _Remote, name: str, check: Check, progress: bool) -> Path | None:
    own = cache_folder() / f"from-{hashlib.sha256(remote.address.encode()).hexdigest()[:8]}"
    targets = [(own / name).with_suffix(suffix) for suffix in SUFFIXES]
    for target in targets:
        if target.is_file():
            return verify(target, check=check)
    looked = f"no {named(name)} in {own}, where what is from {remote.address} is kept"
    ready(targets[0], f"{remote.address.rstrip('/')}/{name}", looked)
    entries = remote.files()
    if entries is None:
        try:
            return fetch(remote.source(name), targets[0], check=check, progress=progress)
        except AbsentError:
            return None
    for target in targets:
        entry = entries.get(target.name)
        if entry is None:
            continue
        _agree(
            target.name,
            {f"{remote.address}, {MANIFEST}": entry.sha256, str(note_of(target)): recorded(target)},
        )
        return fetch(
            remote.source(target.name)._replace(size=entry.size),
            target,
            sha256=entry.sha256,
            keep_hash=True,
            progress=progress,
        )
    return None
