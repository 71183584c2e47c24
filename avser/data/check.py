"""Checks what a configuration says of its data, before anything is decoded: manifest, files, labels, split."""

from __future__ import annotations

from avser.config import DataConfig
from avser.data.audit import audit_split
from avser.data.labels import label_clips
from avser.data.manifest import check_files, read_manifest
from avser.data.published import check_protocol
from avser.data.splits import make_split


def check_data(data: DataConfig) -> list[str]:
    """Sentences on what was found; nothing is decoded, so that a fault shows before hours of caching.

    Raises:
        ManifestError: names the line and the column of every fault of the manifest, and every file that is not there.
        SplitError: the split cannot be made, or leaks.
        ConfigError: a published protocol contradicts itself.
    """
    for name, protocol in data.protocols.items():
        check_protocol(name, protocol)
    if not data.manifest:
        return ["data.manifest is not set: only the settings were checked"]
    manifest = read_manifest(data.manifest)
    check_files(manifest)
    labels = label_clips(manifest.rows, data)
    split = make_split(labels.rows, data)
    notes = audit_split(labels.rows, split, allow_shared_speakers=data.allow_shared_speakers)
    num_speakers = len({row.speaker for row in manifest.rows})
    return [
        f"{data.manifest}: {len(manifest)} clips, {num_speakers} speakers; {len(labels.rows)} clips of "
        f"{', '.join(labels.emotions)}",
        f"protocol {split.describe()}",
        *labels.notes,
        *split.notes,
        *notes,
    ]
