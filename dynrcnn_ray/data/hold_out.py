"""Hold images of a data set with one split out for validation."""

import dataclasses
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynrcnn_ray.data.check.check_split import CheckedSplit
from dynrcnn_ray.data.check.faults import Fault


def hold_out(checked: CheckedSplit, fraction: float, seed: int) -> tuple[CheckedSplit, CheckedSplit]:
    """Divide a checked split by image.

    Which images are held out depends on their positions in the file alone: leaving out others changes nothing.

    Args:
        checked: the whole split.
        fraction: share of the file's images for validation; at least one, and not all.
        seed: of the choice.

    Returns:
        The part for training, with all faults, and the part for validation.
    """
    if checked.content is None:
        return checked, dataclasses.replace(checked, faults=[])
    count = len(checked.content["images"])
    number = min(max(1, round(fraction * count)), count - 1)
    is_held_out = np.zeros(count, dtype=bool)
    is_held_out[np.random.default_rng(seed).permutation(count)[:number]] = True
    held_out = is_held_out[checked.image_rows]
    train, val = _part(checked, ~held_out), _part(checked, held_out)
    note = Fault(
        checked.file,
        "file",
        f"{number} of {count} images are held out for validation",
        f"chosen by data.val_fraction {fraction:g} and data.val_seed {seed}",
        is_error=False,
    )
    faults = [*checked.faults, note]
    if checked.num_objects():
        parts = {"training": train, "validation": val}
        faults += [_without_objects(checked, name) for name, part in parts.items() if not part.num_objects()]
    # The numbers of what was left out are those of the whole file.
    content = checked.content | _lists(checked.content, without=val)
    return dataclasses.replace(train, faults=faults, content=content), val


def _part(checked: CheckedSplit, which: NDArray[np.bool_]) -> CheckedSplit:
    """The images that are marked, with their annotations."""
    rows = which.nonzero()[0].tolist()
    images = [checked.images[row] for row in rows]
    ids = {image["id"] for image in images}
    of_images = [row for row, record in enumerate(checked.annotations) if record["image_id"] in ids]
    assert checked.content is not None
    annotations = [checked.annotations[row] for row in of_images]
    return dataclasses.replace(
        checked,
        faults=[],
        content=checked.content | {"images": images, "annotations": annotations},
        images=images,
        annotations=annotations,
        image_rows=checked.image_rows[rows],
        annotation_rows=checked.annotation_rows[of_images],
        is_changed=True,
        files=[checked.files[row] for row in rows] if checked.files else [],
    )


def _lists(content: dict[str, Any], without: CheckedSplit) -> dict[str, list[Any]]:
    """All records of a file but those of a part."""
    return {
        "images": _others(content["images"], set(without.image_rows.tolist())),
        "annotations": _others(content["annotations"], set(without.annotation_rows.tolist())),
    }


def _others(records: list[Any], rows: Collection[int]) -> list[Any]:
    return [record for row, record in enumerate(records) if row not in rows]


def _without_objects(checked: CheckedSplit, part: str) -> Fault:
    problem = f"the images for {part} have no objects"
    return Fault(checked.file, "file", problem, "choose another data.val_fraction or data.val_seed")
