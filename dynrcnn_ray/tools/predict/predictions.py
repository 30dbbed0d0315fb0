"""What a detector found in pictures, as files: written while it goes on, however many pictures there are.

```
<out>/images.json           the pictures and categories, in COCO's format
<out>/results.json          the detections, in COCO's format of results; image ids are those of images.json
<out>/detections.parquet    the same as a table
<out>/bad_files.txt         what could not be read, and why
<out>/pictures/             the pictures with boxes and masks
<out>/videos/               the videos with boxes and masks
```

Until all is written, the folder is `<out>.partial`.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from dynrcnn_ray.config.errors import one_line
from dynrcnn_ray.store.schemas import optional, required, versioned
from dynrcnn_ray.tools.predict.output_folder import OutputError, OutputFolder

PICTURE = pa.schema(
    [
        pa.field("image_id", pa.int64()),
        pa.field("file_name", pa.string()),
        pa.field("width", pa.int64()),
        pa.field("height", pa.int64()),
        pa.field("error", pa.string()),
        pa.field("not_drawn", pa.string()),
        pa.field("drawn", pa.large_binary()),
        pa.field("category_ids", pa.list_(pa.int64())),
        pa.field("scores", pa.list_(pa.float32())),
        pa.field("boxes", pa.list_(pa.list_(pa.float32()))),
        pa.field("masks", pa.list_(pa.string())),
    ]
)
"""What is found in one picture: boxes as xyxy pixels, masks as COCO's compressed run lengths. `error` says why
nothing could be detected in it, `not_drawn` why it could not be drawn; `drawn` is a frame's drawing, as JPEG."""

_DRAWINGS, _VIDEOS = "pictures", "videos"

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


def output_folder(folder: Path) -> OutputFolder:
    """The folder of predictions at a path."""
    files = frozenset({"images.json", "results.json", "detections.parquet", "bad_files.txt"})
    drawing = re.compile(r"\d{8,}_.*\.jpg|\.partial", re.DOTALL)
    video = re.compile(r"\d+_.*\.mp4", re.DOTALL)
    return OutputFolder(folder.expanduser().resolve(), files, {_DRAWINGS: drawing, _VIDEOS: video})


class PredictionFiles:
    """Writes predictions into a folder; used as a context, which completes the files and puts the folder in its place.

    If it ends by an error, or nothing was detected in any picture, what there is stays in `<folder>.partial`, and what
    an earlier call has written stays where it is.

    Attributes:
        pictures: in how many something could be detected.
        done: those and the ones that could not be read.
        detections: how many there are.
        bad: a line for each file that cannot be used, or not wholly.
        folder: where it all is in the end.
    """

    def __init__(self, folder: Path, category_names: dict[int, str]) -> None:
        """Nothing is written yet.

        Args:
            folder: where to write; what an earlier call has written is replaced whole.
            category_names: name of each category by its id.

        Raises:
            OutputError: it cannot be written, or holds something else.
        """
        self._output = output_folder(folder)
        self._output.check()
        self._names = category_names
        self.pictures = 0
        self.done = 0
        self.detections = 0
        self.bad: list[str] = []
        self.folder = self._output.partial

    @property
    def drawings(self) -> Path:
        """Where the drawn pictures belong until all is written."""
        return self._output.partial / _DRAWINGS

    @property
    def videos(self) -> Path:
        """Where the drawn videos belong until all is written."""
        return self._output.partial / _VIDEOS

    def __enter__(self) -> Self:
        """Open the files.

        Raises:
            OutputError: another call writes there, or the folder cannot be made.
        """
        self._release: Callable[[], None] = self._output.begin()
        partial = self._output.partial
        with self._written():
            self._table = pq.ParquetWriter(partial / "detections.parquet", PREDICTIONS)
            self._results = (partial / "results.json").open("w", encoding="utf-8")
            self._images = (partial / "images.json").open("w", encoding="utf-8")
            categories = [{"id": number, "name": name} for number, name in self._names.items()]
            self._results.write("[")
            self._images.write(f'{{"categories": {json.dumps(categories)}, "annotations": [], "images": [')
        return self

    def add(self, pictures: pa.Table) -> None:
        """Write what was found in some pictures; columns as in `PICTURE`.

        Raises:
            OutputError: the disk is full, or else not to be written.
        """
        detections: list[dict[str, Any]] = []
        with self._written():
            for picture in pictures.to_pylist():
                self.done += 1
                if picture["error"] is not None:
                    self.add_bad(f"{picture['file_name']}: {picture['error']}")
                    continue
                if picture["not_drawn"] is not None:
                    self.add_bad(f"{picture['file_name']}: detected on, but not drawn: {picture['not_drawn']}")
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

    def add_bad(self, line: str) -> None:
        """Note a file that cannot be used, or not wholly: its name, and why."""
        self.bad.append("".join(each if each.isprintable() else repr(each)[1:-1] for each in line))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Complete the files; put the folder into its place where nothing went wrong.

        Raises:
            OutputError: they cannot be written.
        """
        try:
            with self._written():
                self._results.write("\n]\n")
                self._images.write("\n]}\n")
                lines = "".join(f"{line}\n" for line in self.bad)
                (self._output.partial / "bad_files.txt").write_text(lines, encoding="utf-8")
                for file in (self._results, self._images, self._table):
                    file.close()
            if error is None and self.pictures:
                self._output.put_into_place()
                self.folder = self._output.folder
            elif error is not None and not self.done:
                self._output.discard()
            elif error is not None:
                error.add_note(f"what was found so far is in {self._output.partial}, which the next call replaces")
        finally:
            self._release()

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = self._output.partial
            raise OutputError(f"--output: {where} cannot be written: {one_line(error)}; make room") from None


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
