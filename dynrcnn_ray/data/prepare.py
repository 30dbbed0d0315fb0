"""Make the data of a run ready: generate it if need be, check it, and name its content by a fingerprint."""

import dataclasses
import functools
import hashlib
import json
import shutil
import sys
import uuid
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from dynrcnn_ray.config import DataConfig, ShapesConfig
from dynrcnn_ray.data.annotations import DataError, annotation_path, cache_folder, is_unlabelled, unreadable
from dynrcnn_ray.data.check import CheckedSplit, check_split
from dynrcnn_ray.data.check_images import check_images
from dynrcnn_ray.data.findings import Finding
from dynrcnn_ray.data.shapes import GENERATOR_VERSION, generate_shapes, is_generated


def prepare_data(data: DataConfig, *, include_masks: bool = False) -> DataConfig:
    """Generate the shapes data set if it is asked for and missing, then check both splits.

    With `data.drop_invalid`, what is wrong is left out: a copy of the annotations without it is written to the cache,
    beside links to the images, and `root` becomes that folder. The data set's own folder is never written to.

    Its own output is a valid input: on a node that lacks the generated or the cleaned folder, it is made there again.

    Args:
        data: The data set, as configured or as an earlier call returned it.
        include_masks: Every object needs a mask.

    Returns:
        The same with `root` absolute and `fingerprint` filled in.

    Raises:
        DataError: annotations or images that cannot be used, one line a problem, or content that is not the one that
            `data.fingerprint` already names.
    """
    generate_if_asked(data)
    content = _content_fingerprint(data)
    if not data.drop_invalid:
        _check_fingerprint(data, content)
    splits = check_data(data, include_masks=include_masks)
    own_root = own_folder(data)
    _refuse_errors(data, splits)
    _print_notes(splits.values())
    dropped = any(checked.errors for checked in splits.values())
    prepared = dataclasses.replace(data, root=str(own_root), source_root="", fingerprint=content)
    if dropped:
        prepared = dataclasses.replace(prepared, fingerprint=_cleaned_fingerprint(content, splits.values()))
        _check_fingerprint(data, prepared.fingerprint)
        cleaned = _write_cleaned(own_root, prepared.fingerprint, splits)
        prepared = dataclasses.replace(prepared, root=str(cleaned), source_root=str(own_root))
        for checked in splits.values():
            for line in describe_dropped(checked):
                _say_once(line)
    _check_fingerprint(data, prepared.fingerprint)
    return prepared


def check_data(
    data: DataConfig,
    *,
    include_masks: bool = False,
    decode: bool = False,
    on_progress: Callable[[str, int, int], None] = lambda split, done, total: None,
) -> dict[str, CheckedSplit]:
    """Check annotations and images of both splits, without refusing anything.

    Args:
        data: The data set; a generated one must be there.
        include_masks: Every object needs a mask.
        decode: Read every pixel of every image. With `data.drop_invalid` this is always done, once.
        on_progress: Called with the split, the number of its images done and of all.

    Returns:
        The splits by name, that of training first.
    """
    root = own_folder(data)
    splits: dict[str, CheckedSplit] = {}
    for split in dict.fromkeys((data.train_split, data.val_split)):
        checked = check_split(root, split, include_masks=include_masks, evaluated=split == data.val_split)
        if is_unlabelled(checked.file):
            problem = "has no annotations to train on or to measure with"
            checked.findings.append(Finding(checked.file, "file", problem, "name a split that has them"))
        splits[split] = check_images(
            root / split,
            checked,
            cache=cache_folder() / "checked_images",
            decode=decode or data.drop_invalid,
            on_progress=lambda done, total, split=split: on_progress(split, done, total),
        )
    _check_categories_agree(splits[data.train_split], splits[data.val_split])
    _count_empty_images(splits[data.train_split], kept=data.keep_empty_images)
    return splits


def require_split(root: str | Path, split: str, *, include_masks: bool = False) -> None:
    """Check one more split that average precision is to be measured on; nothing of it is left out.

    Args:
        root: Folder of the data set.
        split: Its name.
        include_masks: Every object needs a mask.

    Raises:
        DataError: annotations or images that cannot be used, one line a problem.
    """
    checked = check_split(root, split, include_masks=include_masks, evaluated=True)
    checked = check_images(Path(root) / split, checked, cache=cache_folder() / "checked_images")
    if checked.errors:
        lines = "\n".join(map(str, checked.errors))
        raise DataError(lines.replace(", or leave them out with --data.drop-invalid", ""))


def describe_dropped(checked: CheckedSplit) -> list[str]:
    """What `data.drop_invalid` leaves out of a split, a line each; nothing if nothing is left out."""
    if not checked.errors or checked.content is None:
        return []
    images = len(checked.content["images"]) - len(checked.image_rows)
    annotations = len(checked.content["annotations"]) - len(checked.annotation_rows)
    total = f"{checked.file}: left out {images} images and {annotations} annotations, those of the images among them"
    return [total, *(f"  {finding}" for finding in checked.errors)]


def fingerprint(data: DataConfig, *, include_masks: bool = False) -> str:
    """Identity of the data's content, without generating it.

    Returns:
        `shapes-` and a hash of the recipe for the generated set, else a hash of both splits' annotation files and of
        what `data.drop_invalid` leaves out of them.

    Raises:
        DataError: an annotations file is missing; with `data.drop_invalid`, also data that cannot be used.
    """
    content = _content_fingerprint(data)
    if not data.drop_invalid or _is_generated_set(data):
        return content
    splits = check_data(data, include_masks=include_masks)
    _refuse_errors(data, splits)
    return _cleaned_fingerprint(content, splits.values())


def generate_if_asked(data: DataConfig) -> None:
    """Generate the shapes data set if it is asked for and missing."""
    if _is_generated_set(data):
        generate_shapes(data.shapes, own_folder(data))


def images_to_generate(data: DataConfig) -> int:
    """How many images `prepare_data` would generate: 0 unless the shapes are asked for and missing."""
    if not _is_generated_set(data) or is_generated(own_folder(data)):
        return 0
    return data.shapes.train_images + data.shapes.val_images


def own_folder(data: DataConfig) -> Path:
    """The folder of the whole data set, invalid parts included."""
    if data.source_root or data.root:
        return Path(data.source_root or data.root).expanduser().absolute()
    return cache_folder() / _recipe_fingerprint(data.shapes)


def _is_generated_set(data: DataConfig) -> bool:
    return not data.root or data.fingerprint == _recipe_fingerprint(data.shapes)


def _recipe_fingerprint(shapes: ShapesConfig) -> str:
    recipe = {"version": GENERATOR_VERSION, **dataclasses.asdict(shapes)}
    return "shapes-" + hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def _content_fingerprint(data: DataConfig) -> str:
    """Identity of the annotation files as they are."""
    if _is_generated_set(data):
        return _recipe_fingerprint(data.shapes)
    digest = hashlib.sha256()
    for split in (data.train_split, data.val_split):
        file = annotation_path(own_folder(data), split)
        try:
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
        except OSError as error:
            raise unreadable(file, error) from None
    return digest.hexdigest()[:16]


def _cleaned_fingerprint(content: str, splits: Collection[CheckedSplit]) -> str:
    """Identity of the annotation files less what is left out: images may be missing on one machine alone."""
    if not any(checked.errors for checked in splits):
        return content
    digest = hashlib.sha256(content.encode())
    for checked in splits:
        digest.update(json.dumps([checked.image_rows.tolist(), checked.annotation_rows.tolist()]).encode())
    return digest.hexdigest()[:16]


def _check_fingerprint(data: DataConfig, real: str) -> None:
    if data.fingerprint not in ("", real):
        raise DataError(
            f"{own_folder(data)}: its annotations have the fingerprint {real}, but data.fingerprint says "
            f"{data.fingerprint}; bring back the data of that run or leave data.fingerprint empty"
        )


def _print_notes(splits: Collection[CheckedSplit]) -> None:
    for checked in splits:
        for finding in checked.findings:
            if not finding.is_error:
                _say_once(f"note: {finding}")


@functools.cache
def _say_once(line: str) -> None:
    """Print a line, but not again when another table of the same command reads the same data."""
    print(line, file=sys.stderr, flush=True)


def _refuse_errors(data: DataConfig, splits: dict[str, CheckedSplit]) -> None:
    errors = [finding for checked in splits.values() for finding in checked.errors]
    if errors and _is_generated_set(data):
        damaged = f"{own_folder(data)}: the generated data set is damaged; delete the folder, then it is made again"
        raise DataError("\n".join([damaged, *map(str, errors)]))
    if data.drop_invalid:
        errors = [finding for finding in errors if not finding.can_be_dropped]
    if errors:
        raise DataError("\n".join(map(str, errors)))


def _check_categories_agree(train: CheckedSplit, val: CheckedSplit) -> None:
    """Add a finding to the validation split for each category that the splits disagree on."""
    broken = any(finding.kind == "category" for finding in (*train.errors, *val.errors))
    if broken or train.content is None or val.content is None:
        return
    train_names, val_names = _category_names(train.content), _category_names(val.content)
    for category_id in sorted(train_names.keys() | val_names.keys()):
        if train_names.get(category_id) != val_names.get(category_id):
            problem = (
                f"category {category_id} is {val_names.get(category_id)!r}, but {train.file.name} says "
                f"{train_names.get(category_id)!r}"
            )
            val.findings.append(Finding(val.file, "file", problem, "both splits need the same categories"))


def _count_empty_images(train: CheckedSplit, *, kept: bool) -> None:
    """Add a note on the training split's images without objects, if it has images with objects as well."""
    counts = train.objects_per_image()
    empty = int((counts == 0).sum())
    if not empty or not counts.any():
        return
    problem = f"{empty} of {len(counts)} images have no objects, crowds and boxes without extent not counted"
    consequence = "trained on too" if kept else "left out of training; --data.keep-empty-images keeps them"
    train.findings.append(Finding(train.file, "file", problem, consequence, is_error=False))


def _category_names(content: dict[str, Any]) -> dict[int, str]:
    return {category["id"]: category["name"] for category in content["categories"]}


def _write_cleaned(own_root: Path, name: str, splits: dict[str, CheckedSplit]) -> Path:
    """Write a folder like the data set's own: links to all it holds, but annotations without what is left out."""
    # The same data set in another place needs other links.
    place = hashlib.sha256(str(own_root).encode()).hexdigest()[:8]
    folder = cache_folder() / f"cleaned-{name}-{place}"
    if folder.is_dir():
        return folder
    building = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    try:
        (building / "annotations").mkdir(parents=True)
        for entry in own_root.iterdir():
            if entry.name != "annotations":
                (building / entry.name).symlink_to(entry)
        for entry in (own_root / "annotations").iterdir():
            (building / "annotations" / entry.name).symlink_to(entry)
        for split, checked in splits.items():
            file = annotation_path(building, split)
            file.unlink()
            file.write_text(json.dumps(_cleaned(checked)))
        building.rename(folder)
    except OSError:
        # Of two processes one wins.
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def _cleaned(checked: CheckedSplit) -> dict[str, Any]:
    assert checked.content is not None
    return checked.content | {
        "images": [checked.content["images"][row] for row in checked.image_rows.tolist()],
        "annotations": [checked.content["annotations"][row] for row in checked.annotation_rows.tolist()],
    }
