"""What the splits of a data set must have in common, and what they should not: categories, images."""

from collections import Counter
from collections.abc import Mapping

from dynrcnn_ray.config.sections import DataConfig
from dynrcnn_ray.data.check.check_split import CheckedSplit
from dynrcnn_ray.data.check.faults import Fault
from dynrcnn_ray.data.fingerprints import image_digests
from dynrcnn_ray.data.layout import SplitFiles

_MOST_EXAMPLES = 3


def check_between_splits(data: DataConfig, files: Mapping[str, SplitFiles], splits: Mapping[str, CheckedSplit]) -> None:
    """Add to the validation split's faults what it has against the training split.

    Args:
        data: The data set; of a generated one the images are known.
        files: Where each split is, by its name.
        splits: Both, each checked by itself.
    """
    train, val = splits[data.train_split], splits[data.val_split]
    _check_categories_agree(train, val)
    if train is val or train.errors or val.errors:
        return
    _note_classes_without_training(train, val)
    if data.is_given:
        _note_shared_images(files[data.train_split], files[data.val_split], train, val)


def _check_categories_agree(train: CheckedSplit, val: CheckedSplit) -> None:
    """Add a fault to the validation split for each category that the splits disagree on."""
    broken = any(fault.kind == "category" for fault in (*train.errors, *val.errors))
    if broken or train.content is None or val.content is None:
        return
    train_names, val_names = _category_names(train), _category_names(val)
    for category_id in sorted(train_names.keys() | val_names.keys()):
        if train_names.get(category_id) != val_names.get(category_id):
            problem = (
                f"category {category_id} is {val_names.get(category_id)!r}, but {train.file.name} says "
                f"{train_names.get(category_id)!r}"
            )
            val.faults.append(Fault(val.file, "file", problem, "both splits need the same categories"))


def _note_shared_images(train_files: SplitFiles, val_files: SplitFiles, train: CheckedSplit, val: CheckedSplit) -> None:
    """Add a note on images of the validation split that are trained on too, byte for byte."""
    try:
        trained_on = set(image_digests(train_files.images, train))
        digests = image_digests(val_files.images, val)
    except OSError:
        return  # The fingerprint needs all images, and says which of them cannot be read.
    again = [image["file_name"] for image, digest in zip(val.images, digests, strict=True) if digest in trained_on]
    if again:
        named = ", ".join(again[:_MOST_EXAMPLES])
        problem = f"{len(again)} of {len(digests)} images are also among those of training ({named})"
        consequence = "average precision is too high by what is known of them"
        val.faults.append(Fault(val.file, "file", problem, consequence, is_error=False))


def _note_classes_without_training(train: CheckedSplit, val: CheckedSplit) -> None:
    """Add a note on the classes of which objects are looked for that no object of training shows."""
    trained_on = {record["category_id"] for record in train.annotations if not record.get("iscrowd", 0)}
    wanted = Counter(record["category_id"] for record in val.annotations if not record.get("iscrowd", 0))
    names = _category_names(val)
    absent = [f"{names[each]!r} {count}" for each, count in sorted(wanted.items()) if each not in trained_on]
    if absent:
        problem = f"objects of classes that {train.file.name} has none of ({', '.join(absent[:_MOST_EXAMPLES])})"
        val.faults.append(
            Fault(
                val.file,
                "file",
                problem,
                "a detector learns these classes from its starting weights alone",
                is_error=False,
            )
        )


def _category_names(checked: CheckedSplit) -> dict[int, str]:
    return {category["id"]: category["name"] for category in checked.categories}
