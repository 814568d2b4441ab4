"""``facenet release publish``: to one address, and back again to see what users will get."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from facenet_common.hashing import sha256_file
from facenet_common.progress import Progress
from facenet_release.channels import Channel, open_channel
from facenet_release.checking.check import Checked, CheckOptions, check, require_asked
from facenet_release.documents.manifest import MANIFEST, MAX_BYTES, UNNAMED, parse
from facenet_release.errors import AbsentError, ChannelError, CheckFailedError


def publish(folder: Path, address: str, options: CheckOptions, progress: Progress) -> Checked:
    """Check the release in `folder`, publish it at `address`, download it again, check that.

    Raises what `check` and the channel raise; ChannelError if what comes back is something else.
    """
    channel = open_channel(address)
    ours = check(folder, options, progress)
    channel.publish(sorted(folder.iterdir()), ours.manifest, progress)
    with _downloaded(channel, options, progress) as copy:
        strangers = [name for name in UNNAMED if _hash(copy / name) != _hash(folder / name)]
        if strangers:
            raise ChannelError(
                "what is published is not what was sent",
                file=address,
                found=f"other bytes in {', '.join(strangers)}",
                next_step="publish again, under another name if that is refused",
            )
        return _checked(copy, address, options, progress)


def check_address(address: str, options: CheckOptions, progress: Progress) -> Checked:
    """Download what is published at `address` into a temporary folder, and check it."""
    with _downloaded(open_channel(address), options, progress) as copy:
        return _checked(copy, address, options, progress)


def _checked(copy: Path, address: str, options: CheckOptions, progress: Progress) -> Checked:
    """`check`, about the address rather than about a copy that will be gone."""
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
    """Download a whole release into the empty `folder`, trusting only what its manifest says.

    No file may be larger than there; a name that it doesn't know is refused. Raises AbsentError,
    ChannelError, CheckFailedError.
    """
    names = set(channel.names())
    if MANIFEST not in names:
        raise AbsentError(
            "what is published there is no release of ours",
            file=channel.address,
            expected=f"a file {MANIFEST}",
            found=f"{len(names)} files",
        )
    channel.download(MANIFEST, folder / MANIFEST, MAX_BYTES, lambda _: None)
    data = (folder / MANIFEST).read_bytes()
    require_asked(data, options, channel.address)
    manifest = parse(data, f"{channel.address}: {MANIFEST}")
    sizes = {file.name: file.size for file in manifest.files}
    rest = {name: MAX_BYTES for name in UNNAMED if name in names and name != MANIFEST}
    wrong = [f"{name}: not published" for name in sorted(sizes.keys() - names)]
    wrong += [
        f"{name}: no file of this release" for name in sorted(names - sizes.keys() - set(UNNAMED))
    ]
    if wrong:
        raise CheckFailedError("what is published is not the release", wrong, file=channel.address)
    progress.stage("downloading", sum(sizes.values()))
    for name, limit in {**rest, **sizes}.items():
        channel.download(name, folder / name, limit, progress.advance)
