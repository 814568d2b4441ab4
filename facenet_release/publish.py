"""``facenet release publish``: publish a release, download it again and check the download."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from facenet_common.hashing import sha256_file
from facenet_common.progress import Progress
from facenet_release.channels import Channel, open_channel
from facenet_release.checking.check import Checked, CheckOptions, check, check_manifest_hash
from facenet_release.documents.manifest import MANIFEST, MAX_BYTES, UNNAMED, parse
from facenet_release.errors import AbsentError, ChannelError, CheckFailedError


def publish(folder: Path, address: str, options: CheckOptions, progress: Progress) -> Checked:
    """Check a release, publish it, download it again and check the download.

    Args:
        folder: The release.
        address: The address to publish at.
        options: Facts about the release from a trusted place.
        progress: Receives the stages of the checks, the upload and the download, in bytes.

    Raises:
        CheckFailedError: The release, or the download, failed its check.
        TakenError: Another release is published at the address.
        ChannelError: The server refuses or can't be reached, or the download differs.
        UsageError: The address is not valid.

    Examples:
        >>> publish(Path("dist"), "published", CheckOptions(), Progress())  # doctest: +SKIP
    """
    channel = open_channel(address)
    ours = check(folder, options, progress)
    channel.publish(sorted(folder.iterdir()), ours.manifest, progress)
    with _downloaded(channel, options, progress) as copy:
        different = [name for name in UNNAMED if _hash(copy / name) != _hash(folder / name)]
        if different:
            raise ChannelError(
                "the published files differ from the files sent",
                file=address,
                found=f"other bytes in {', '.join(different)}",
                next_step="publish again, under another name if that is refused",
            )
        return _checked(copy, address, options, progress)


def check_address(address: str, options: CheckOptions, progress: Progress) -> Checked:
    """Download a release into a temporary folder and check it.

    Raises:
        AbsentError: No release is published at the address.
        ChannelError: The server refuses or can't be reached.
        CheckFailedError: The release failed its check.

    Examples:
        >>> check_address("hf:owner/repo", CheckOptions(), Progress())  # doctest: +SKIP
    """
    with _downloaded(open_channel(address), options, progress) as copy:
        return _checked(copy, address, options, progress)


def _checked(copy: Path, address: str, options: CheckOptions, progress: Progress) -> Checked:
    """Check a temporary copy, and report its findings with the address."""
    try:
        return replace(check(copy, options, progress), folder=Path(address))
    except CheckFailedError as error:
        error.file = address
        raise


@contextmanager
def _downloaded(channel: Channel, options: CheckOptions, progress: Progress) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="facenet-release-") as name:
        fetch(channel, Path(name), options, progress)
        yield Path(name)


def _hash(path: Path) -> str | None:
    return sha256_file(path) if path.is_file() else None


def fetch(channel: Channel, folder: Path, options: CheckOptions, progress: Progress) -> None:
    """Download a release, and only the files that its manifest names, with at most their sizes.

    Args:
        channel: The place where it is published.
        folder: The folder to fill; it must be empty.
        options: The hash that the manifest must have, if any.
        progress: Receives one stage, in bytes.

    Raises:
        AbsentError: No release is published there.
        ChannelError: The server refuses or can't be reached.
        CheckFailedError: The manifest is not valid, or the published files differ from it.

    Examples:
        >>> fetch(channel, Path("copy"), CheckOptions(), Progress())  # doctest: +SKIP
    """
    names = set(channel.names())
    if MANIFEST not in names:
        raise AbsentError(
            "the address holds no release",
            file=channel.address,
            expected=f"a file {MANIFEST}",
            found=f"{len(names)} files",
        )
    channel.download(MANIFEST, folder / MANIFEST, MAX_BYTES, lambda _: None)
    data = (folder / MANIFEST).read_bytes()
    check_manifest_hash(data, options, channel.address)
    manifest = parse(data, f"{channel.address}: {MANIFEST}")
    sizes = {file.name: file.size for file in manifest.files}
    rest = {name: MAX_BYTES for name in UNNAMED if name in names and name != MANIFEST}
    wrong = [f"{name}: not published" for name in sorted(sizes.keys() - names)]
    unknown = sorted(names - sizes.keys() - set(UNNAMED))
    wrong += [f"{name}: not a file of this release" for name in unknown]
    if wrong:
        raise CheckFailedError(
            "the published files are not those of the manifest", wrong, file=channel.address
        )
    progress.stage("downloading", sum(sizes.values()))
    for name, limit in {**rest, **sizes}.items():
        channel.download(name, folder / name, limit, progress.advance)
