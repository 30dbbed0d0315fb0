"""A quick look whether a data set is on this machine: for nodes that train on what another one has checked."""

import hashlib

from dynrcnn_ray.config.sections import DataConfig
from dynrcnn_ray.data.annotations import DataError, unreadable
from dynrcnn_ray.data.layout import own_files


def annotations_digest(data: DataConfig) -> str:
    """Identity of both splits' annotation files as they are on this machine; some seconds for COCO's.

    Raises:
        DataError: one is not there, or the images are not.
    """
    digest = hashlib.sha256()
    for file, folder in own_files(data).values():
        try:
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
        except OSError as error:
            raise unreadable(file, error) from None
        if not next(folder.glob("*"), None):
            raise DataError(f"{folder}: holds no images; check data.root and the name of the split")
    return digest.hexdigest()[:16]
