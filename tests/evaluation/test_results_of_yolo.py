"""Results that name an image by the number in its file's name are those of that image, or the doubt is told."""

import json
from pathlib import Path

import pytest

from dynrcnn_ray.evaluation.results_file import ResultsFileError, read_results


def read(folder: Path, images: dict[str, int], given: list[int]) -> tuple[list[int], list[str]]:
    """The ids as they were taken, and the notes."""
    annotations, results = folder / "val.json", folder / "predictions.json"
    records = [{"id": image_id, "file_name": name} for name, image_id in images.items()]
    annotations.write_text(json.dumps({"images": records, "categories": [{"id": 1}]}))
    row = {"category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5}
    results.write_text(json.dumps([row | {"image_id": each} for each in given]))
    arrays, notes = read_results(results, annotations)
    return arrays.image_ids.tolist(), notes


def test_numbers_that_are_no_ids_are_those_of_the_names(tmp_path: Path):
    ids, (note,) = read(tmp_path, {"1.jpg": 11, "10.jpg": 12, "a/2.jpg": 13}, [2, 10, 10, 1])

    assert ids == [13, 12, 12, 11]
    assert note.endswith("image_id is the number in the image's file name, not its id in the annotations; taken by it")


def test_numbers_that_may_be_either_are_ids_with_a_note(tmp_path: Path):
    """Ids in the order of the names as text: the third is that of 2.jpg."""
    ids, (note,) = read(tmp_path, {"1.jpg": 1, "10.jpg": 2, "2.jpg": 3}, [1, 2])

    assert ids == [1, 2]
    assert "which differ; taken as the id. Where the number was meant, as YOLO writes it" in note


@pytest.mark.parametrize(
    ("images", "given"),
    [
        ({"000001.jpg": 1, "000010.jpg": 10}, [10, 1]),
        ({"first.jpg": 1, "10.jpg": 2}, [1, 2]),
        ({"1.jpg": 11, "10.jpg": 12}, []),
    ],
)
def test_where_there_is_no_doubt_nothing_is_said(tmp_path: Path, images: dict[str, int], given: list[int]):
    assert read(tmp_path, images, given) == (given, [])


def test_a_number_of_neither_is_refused(tmp_path: Path):
    with pytest.raises(ResultsFileError, match="detection 0: image_id 1 is not in the split"):
        read(tmp_path, {"1.jpg": 11, "10.jpg": 12}, [1, 13])
