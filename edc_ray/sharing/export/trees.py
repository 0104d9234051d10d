"""Condensed images as plain files: one folder for each class, or tar files of samples."""

from __future__ import annotations

import io
import json
import tarfile

from edc_ray.sharing.export.images import ImagesToExport, encoded_images, images_of_files
from edc_ray.sharing.export.options import ExportOptions
from edc_ray.sharing.export.target import ExportTarget
from edc_ray.sharing.formats.folders import CLASS_NAMES
from edc_ray.sharing.formats.official_images import Slot, image_suffix, official_image_path


def write_image_tree(source: ImagesToExport, target: ExportTarget, options: ExportOptions) -> None:
    """train/00000/class00000_id00000.png. Leading zeros: the order of the names is that of the labels."""
    for images in encoded_images(source, options.image_format):
        target.put_all(
            (f"train/{official_image_path(slot, 'rded', image_suffix(data))}", data)
            for slot, data in images.items()
        )
    _put_class_names(source, target)


def write_tars(source: ImagesToExport, target: ExportTarget, options: ExportOptions) -> None:
    """data-000000.tar: for each image KEY.png (or jpg), KEY.cls with its label and KEY.json."""
    for number, _, images in images_of_files(source, options):
        target.put(f"data-{number:06d}.tar", _tar(images, source.class_names))
    _put_class_names(source, target)


def _put_class_names(source: ImagesToExport, target: ExportTarget) -> None:
    text = json.dumps(source.class_names, indent=1, ensure_ascii=False)
    target.put(CLASS_NAMES, f"{text}\n".encode())


def _tar(samples: dict[Slot, bytes], class_names: list[str]) -> bytes:
    """Samples without date and owner: the same images give the same bytes."""
    buffer = io.BytesIO()
    with tarfile.TarFile(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for (label, ipc_id), data in samples.items():
            about = {"label": label, "class_name": class_names[label], "ipc_id": ipc_id}
            text = json.dumps(about, ensure_ascii=False).encode()
            files = {image_suffix(data): data, "cls": str(label).encode(), "json": text}
            for suffix, content in files.items():
                member = tarfile.TarInfo(f"{label:05d}_{ipc_id:05d}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
