"""What a detector found in pictures, as files: written while it goes on, however many pictures there are.

```
<out>/images.json           the pictures and categories, in COCO's format
<out>/results.json          the detections, in COCO's format of results; image ids are those of images.json
<out>/detections.parquet    the same as a table
<out>/bad_files.txt         what could not be read, and why
<out>/pictures/             the pictures with boxes and masks
```
"""

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from dynrcnn_ray.store.schemas import optional, required, versioned

PICTURE = pa.schema(
    [
        pa.field("image_id", pa.int64()),
        pa.field("file_name", pa.string()),
        pa.field("width", pa.int64()),
        pa.field("height", pa.int64()),
        pa.field("error", pa.string()),
        pa.field("category_ids", pa.list_(pa.int64())),
        pa.field("scores", pa.list_(pa.float32())),
        pa.field("boxes", pa.list_(pa.list_(pa.float32()))),
        pa.field("masks", pa.list_(pa.string())),
    ]
)
"""What is found in one picture: boxes as xyxy pixels, masks as COCO's compressed run lengths. `error` says why a
picture could not be read."""

PREDICTIONS = versioned(
    [
        required("image_id", pa.int64(), "id"),
        required("file_name", pa.string(), "text"),
        required("category_id", pa.int64(), "id"),
        required("category", pa.string(), "text"),
        required("score", pa.float32(), "1"),
        *[required(name, pa.float32(), "pixels") for name in ("x1", "y1", "x2", "y2")],
        optional("mask", pa.string(), "COCO run lengths"),
    ]
)
"""One detection in a picture."""


class PredictionFiles:
    """Writes predictions into a folder; used as a context, which completes the files."""

    def __init__(self, folder: Path, category_names: dict[int, str]) -> None:
        """Create the folder.

        Args:
            folder: where to write; tables of an earlier call are replaced, its drawings of other pictures stay.
            category_names: name of each category by its id.
        """
        self._folder = folder
        self._names = category_names
        self.pictures = 0
        self.detections = 0
        self.bad: list[str] = []

    def __enter__(self) -> Self:
        """Open the files."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._table = pq.ParquetWriter(self._folder / "detections.parquet", PREDICTIONS)
        self._results = (self._folder / "results.json").open("w")
        self._images = (self._folder / "images.json").open("w")
        categories = [{"id": number, "name": name} for number, name in self._names.items()]
        self._images.write(f'{{"categories": {json.dumps(categories)}, "annotations": [], "images": [')
        self._results.write("[")
        return self

    def add(self, pictures: pa.Table) -> None:
        """Write what was found in some pictures; columns as in `PICTURE`."""
        detections: list[dict[str, Any]] = []
        for picture in pictures.to_pylist():
            if picture["error"] is not None:
                self.bad.append(f"{picture['file_name']}: {picture['error']}")
                continue
            image = {name: picture[name] for name in ("file_name", "width", "height")}
            self._images.write(",\n" if self.pictures else "\n")
            self._images.write(json.dumps({"id": picture["image_id"], **image}))
            self.pictures += 1
            for row in _rows(picture):
                self._results.write(",\n" if self.detections else "\n")
                self._results.write(json.dumps(_as_result(row, picture)))
                self.detections += 1
                detections.append(row | {"category": self._names[row["category_id"]]})
        self._table.write_table(pa.Table.from_pylist(detections, schema=PREDICTIONS))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Complete the files; what was found before an error is there."""
        self._results.write("\n]\n")
        self._images.write("\n]}\n")
        for file in (self._results, self._images, self._table):
            file.close()
        (self._folder / "bad_files.txt").write_text("".join(f"{line}\n" for line in self.bad))


def _rows(picture: dict[str, Any]) -> Iterator[dict[str, Any]]:
    masks = picture["masks"] or [None] * len(picture["scores"])
    columns = (picture["category_ids"], picture["scores"], picture["boxes"], masks)
    for category_id, score, box, mask in zip(*columns, strict=True):
        corners = dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))
        own = {"image_id": picture["image_id"], "file_name": picture["file_name"], "category_id": category_id}
        yield own | {"score": score, **corners, "mask": mask}


def _as_result(row: dict[str, Any], picture: dict[str, Any]) -> dict[str, Any]:
    left, top, right, bottom = (row[name] for name in ("x1", "y1", "x2", "y2"))
    result = {"image_id": row["image_id"], "category_id": row["category_id"], "score": round(row["score"], 6)}
    result["bbox"] = [round(value, 3) for value in (left, top, right - left, bottom - top)]
    if row["mask"] is not None:
        result["segmentation"] = {"size": [picture["height"], picture["width"]], "counts": row["mask"]}
    return result
