"""Make the data of a run ready: generate it if need be, check it, and name its content by a fingerprint."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dynrcnn_ray.config.sections import DataConfig
from dynrcnn_ray.config.trial import Inputs
from dynrcnn_ray.data.annotations import DataError, cache_folder, is_unlabelled
from dynrcnn_ray.data.between_splits import check_between_splits
from dynrcnn_ray.data.check.check_split import CheckedSplit, Demands, check_splits
from dynrcnn_ray.data.check.faults import Fault
from dynrcnn_ray.data.check.images import check_images
from dynrcnn_ray.data.converted_copy import must_be_copied, write_copy
from dynrcnn_ray.data.fingerprints import (
    content_fingerprint,
    files_of_splits,
    own_folder,
    recipe_fingerprint,
)
from dynrcnn_ray.data.hold_out import hold_out
from dynrcnn_ray.data.layout import SplitFiles, find_split, needs_root
from dynrcnn_ray.data.shapes import generate_shapes, is_generated


@dataclass(frozen=True)
class PreparedData:
    """Data that are checked and ready to be read.

    Attributes:
        root: The folder to read both splits from.
        fingerprint: Identity of the content of annotations and images.
    """

    root: str
    fingerprint: str

    @property
    def inputs(self) -> Inputs:
        """The inputs of a trial on these data, before those of its model are known."""
        return Inputs(data=self.fingerprint, data_root=self.root)


def prepare_data(data: DataConfig, *, include_masks: bool = False, expected: str = "") -> PreparedData:
    """Generate the shapes data set if it is asked for and missing, then check both splits.

    A corrected copy of the annotations is written to the cache, beside links to the images, where annotations need
    corrections, where `data.drop_invalid` leaves some out, where files are named or where one split is divided. That
    folder is then the one to read: whatever reads the data finds the same. The data set's own folder is never written
    to.

    On a node that lacks the generated or the copied folder, it is made there again.

    Args:
        data: The data set, as configured.
        include_masks: Every object needs a mask.
        expected: The fingerprint that the data must have; empty before it is known.

    Returns:
        The folder to read, absolute, and the fingerprint.

    Raises:
        DataError: annotations or images that cannot be used, one line a problem, or content that is not the one that
            is expected.
    """
    is_generated = not data.is_given or expected == recipe_fingerprint(data.shapes)
    if is_generated:
        generate_shapes(data.shapes, own_folder(data))
    splits = check_data(data, include_masks=include_masks)
    _refuse_errors(data, splits, is_generated=is_generated)
    content = recipe_fingerprint(data.shapes) if is_generated else _fingerprint_of(data, splits)
    _check_fingerprint(data, content, expected)
    _print_notes(splits.values())
    return _ready(data, splits, content, include_masks=include_masks)


def ready_to_read(data: DataConfig, splits: dict[str, CheckedSplit], *, include_masks: bool = False) -> PreparedData:
    """As `prepare_data`, of splits that `check_data` has checked and a run would take; says nothing.

    Raises:
        DataError: they cannot be read any more.
    """
    content = _fingerprint_of(data, splits) if data.is_given else recipe_fingerprint(data.shapes)
    return _ready(data, splits, content, include_masks=include_masks)


def _ready(data: DataConfig, splits: dict[str, CheckedSplit], content: str, *, include_masks: bool) -> PreparedData:
    """The folder to read, which is a copy where the data set's own will not do."""
    own_root = own_folder(data) if needs_root(data) else None
    names_files = data.train_annotations or data.val_annotations
    if not names_files and not any(map(must_be_copied, splits.values())):
        return PreparedData(str(own_root or ""), content)
    copied = write_copy(own_root, files_of_splits(data), content, splits, include_masks=include_masks)
    return PreparedData(str(copied), content)


def data_here(trained_on: DataConfig, root: str) -> DataConfig:
    """A stored trial's data set, where this machine has it in another folder: `root`; empty: where the trial had it."""
    named = ("train_annotations", "train_images", "val_annotations", "val_images")
    return dataclasses.replace(trained_on, root=root, **dict.fromkeys(named, "")) if root else trained_on


def prepare_split(
    data: DataConfig, root: str | Path, split: str, *, include_masks: bool, classes: Collection[int]
) -> Path:
    """Make one more split ready, on which average precision is to be measured or detections are to be made.

    Args:
        data: The data of the training: the size of the input, and whether what is invalid is left out.
        root: Folder of the split's data set.
        split: Its name.
        include_masks: Every object needs a mask.
        classes: Ids of the categories that were trained.

    Returns:
        The folder to read the split from: `root`, or a copy as `prepare_data` makes it.

    Raises:
        DataError: annotations or images that cannot be used, one line a problem.
    """
    root = Path(root).expanduser().absolute()
    demands = Demands(masks=include_masks, evaluated=True, long_side=data.long_side)
    files = {split: find_split(root, split)}
    checked = check_splits(files, {split: demands}, used_elsewhere=classes)[split]
    cache = cache_folder() / "checked_images"
    checked = check_images(files[split].images, checked, cache=cache, decode=data.drop_invalid)
    _raise(checked.errors, drop_invalid=data.drop_invalid)
    _print_notes([checked])
    if not must_be_copied(checked):
        return root
    content = content_fingerprint([checked], files.values(), in_part=bool(checked.errors))
    return write_copy(root, files, content, {split: checked}, include_masks=include_masks)


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
    files = files_of_splits(data)
    _require_two_splits(data, files)
    splits = check_splits(files, _demands(data, masks=include_masks))
    for split, checked in splits.items():
        if is_unlabelled(checked.file):
            problem = "has no annotations to train on or to measure with"
            checked.faults.append(Fault(checked.file, "file", problem, "name a split that has them"))
        splits[split] = check_images(
            files[split].images,
            checked,
            cache=cache_folder() / "checked_images",
            decode=decode or data.drop_invalid,
            on_progress=lambda done, total, split=split: on_progress(split, done, total),
        )
    if data.val_fraction:
        parts = hold_out(splits[data.train_split], data.val_fraction, data.val_seed)
        splits = dict(zip((data.train_split, data.val_split), parts, strict=True))
    check_between_splits(data, files, splits)
    _count_empty_images(splits[data.train_split], kept=data.keep_empty_images)
    return splits


def check_split(root: str, split: str, *, on_progress: Callable[[int, int], None]) -> CheckedSplit:
    """Check the annotations and every pixel of one split by itself, without refusing anything.

    Args:
        root: Folder of its data set.
        split: Its name.
        on_progress: Called with the number of images done and of all.
    """
    files = find_split(root, split)
    checked = check_splits({split: files}, {split: Demands(evaluated=True)})[split]
    cache = cache_folder() / "checked_images"
    return check_images(files.images, checked, cache=cache, decode=True, on_progress=on_progress)


def describe_dropped(checked: CheckedSplit) -> list[str]:
    """What `data.drop_invalid` leaves out of a split, a line each; nothing if nothing is left out."""
    if not checked.errors or checked.content is None:
        return []
    images = len(checked.content["images"]) - len(checked.images)
    annotations = len(checked.content["annotations"]) - len(checked.annotations)
    total = f"{checked.file}: left out {images} images and {annotations} annotations, those of the images among them"
    return [total, *(f"  {fault}" for fault in checked.errors)]


def fingerprint(data: DataConfig, *, include_masks: bool = False) -> str:
    """Identity of the data's content, without generating it.

    Returns:
        `shapes-` and a hash of the recipe for the generated set, else a hash of both splits' annotation files, of
        their images and of what `data.drop_invalid` leaves out of them.

    Raises:
        DataError: data that cannot be used.
    """
    if not data.is_given:
        return recipe_fingerprint(data.shapes)
    splits = check_data(data, include_masks=include_masks)
    _refuse_errors(data, splits, is_generated=False)
    return _fingerprint_of(data, splits)


def generate_if_asked(data: DataConfig) -> None:
    """Generate the shapes data set if it is asked for, and missing or damaged."""
    if not data.is_given:
        generate_shapes(data.shapes, own_folder(data))


def images_to_generate(data: DataConfig) -> int:
    """How many images `prepare_data` would generate: 0 unless the shapes are asked for and missing."""
    if data.is_given or is_generated(own_folder(data)):
        return 0
    return data.shapes.train_images + data.shapes.val_images


def _demands(data: DataConfig, *, masks: bool) -> dict[str, Demands]:
    """What each split that is checked is for; where one split is divided, it is both at once."""
    long_side = data.train_long_side if data.train_short_sides else data.long_side
    lowest = min(long_side, data.long_side)
    if data.val_fraction:
        return {data.train_split: Demands(masks=masks, evaluated=True, long_side=lowest)}
    demands = {data.train_split: Demands(masks=masks, long_side=long_side)}
    return demands | {data.val_split: Demands(masks=masks, evaluated=True, long_side=lowest)}


def _require_two_splits(data: DataConfig, files: Mapping[str, SplitFiles]) -> None:
    """Refuse to measure on the images of training, and to divide where there is nothing to divide."""
    own = files[data.train_split].annotations
    if data.val_fraction and not data.val_annotations and not data.train_annotations:
        val = find_split(own_folder(data), data.val_split).annotations
        if val != own and val.is_file():
            raise DataError(
                f"data.val_fraction: {data.val_fraction:g} would divide {own}, but {val} is there for validation; "
                "leave data.val_fraction out, or name the file to divide with --data.train-annotations"
            )
    is_asked_for = data.val_fraction or data.val_annotations or data.train_split == data.val_split
    if not is_asked_for and files[data.val_split].annotations == own:
        raise DataError(
            f"{own}: is the only split, for training and for validation; hold images out with --data.val-fraction 0.2, "
            "or name other files with --data.val-annotations and --data.val-images"
        )


def _fingerprint_of(data: DataConfig, splits: Mapping[str, CheckedSplit]) -> str:
    in_part = bool(data.val_fraction) or any(checked.errors for checked in splits.values())
    return content_fingerprint(splits.values(), files_of_splits(data).values(), in_part=in_part)


def _check_fingerprint(data: DataConfig, real: str, expected: str) -> None:
    if expected not in ("", real):
        raise DataError(
            f"{own_folder(data)}: its annotations and images have the fingerprint {real}, but the trial began with "
            f"{expected}; bring back the data of that run"
        )


def _print_notes(splits: Iterable[CheckedSplit]) -> None:
    """Say what is left out, and what is used otherwise than it was found."""
    for checked in splits:
        notes = [f"note: {fault}" for fault in checked.faults if not fault.is_error]
        for line in (*notes, *describe_dropped(checked)):
            _say_once(line)


@functools.cache
def _say_once(line: str) -> None:
    """Print a line once: several tables of a command may read the same data."""
    print(line, file=sys.stderr, flush=True)


def _refuse_errors(data: DataConfig, splits: dict[str, CheckedSplit], *, is_generated: bool) -> None:
    errors = [fault for checked in splits.values() for fault in checked.errors]
    if errors and is_generated and not any(fault.may_be_whole for fault in errors):
        damaged = f"{own_folder(data)}: the generated data set is damaged; move the folder away, then it is made again"
        raise DataError("\n".join([damaged, *map(str, errors)]))
    _raise(errors, drop_invalid=data.drop_invalid)


def _raise(errors: Iterable[Fault], *, drop_invalid: bool) -> None:
    errors = list(errors)
    if all(drop_invalid and fault.can_be_dropped for fault in errors):
        return
    # What is left out may be why nothing is left; without leaving out, what follows from an error needs no line.
    told = [fault for fault in errors if drop_invalid or not fault.follows]
    raise DataError("\n".join(map(str, told or errors)))


def _count_empty_images(train: CheckedSplit, *, kept: bool) -> None:
    """Add a note on the training split's images without objects, if it has images with objects as well."""
    counts = train.objects_per_image
    empty = int((counts == 0).sum())
    if not empty or not counts.any():
        return
    problem = f"{empty} of {len(counts)} images have no objects, crowds and boxes without extent not counted"
    consequence = "trained on too" if kept else "left out of training; --data.keep-empty-images keeps them"
    train.faults.append(Fault(train.file, "file", problem, consequence, is_error=False))
