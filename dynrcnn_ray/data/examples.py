"""A few images of a split with their ground truth, small enough to travel with the results."""

import io
from typing import Any

from PIL import Image

from dynrcnn_ray.data.coco import CocoDataset, Sample

_COUNT = 6
_LONGEST_SIDE = 480
_QUALITY = 85


def example_images(dataset: CocoDataset) -> list[dict[str, Any]]:
    """The first images of a split that have objects, as rows of `schemas.IMAGES`.

    A large image is stored smaller; `width`, `height` and the boxes are those of the original.
    """
    with_objects = [index for index in range(len(dataset)) if dataset.num_objects(index)]
    names = dataset.category_names
    rows = []
    for index in with_objects[:_COUNT]:
        pixels, target = dataset[Sample(index, flip=False)]
        rows.append(
            {
                "image_id": dataset.image_ids[index],
                "file_name": dataset.file_names[index],
                "width": pixels.shape[2],
                "height": pixels.shape[1],
                "jpeg": _jpeg(Image.fromarray(pixels.permute(1, 2, 0).numpy())),
                "boxes": target["boxes"].tolist(),
                "box_categories": [dataset.category_ids[label - 1] for label in target["labels"].tolist()],
                "category_names": names,
            }
        )
    return rows


def _jpeg(image: Image.Image) -> bytes:
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()
