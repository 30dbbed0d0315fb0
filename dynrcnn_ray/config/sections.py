"""The sections of a trial's configuration: data, model, test, dynamic, train and run, each a frozen dataclass."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeVar

from annotated_types import Ge, Gt, Interval, Len
from pydantic import ConfigDict

Fraction = Annotated[float, Interval(ge=0, le=1)]
CheckpointName = Literal["last", "best"] | int
"""A finished trial's checkpoint: its last step's, the one with the best AP, or that of a step."""
OpenFraction = Annotated[float, Interval(gt=0, lt=1)]
Positive = Annotated[int, Ge(1)]
SAMPLED_ROIS = 512
"""The RoIs an image for which K_I and K_beta are stated, the paper's."""
_RankOfRoIs = Annotated[int, Interval(ge=1, le=SAMPLED_ROIS)]
PRETRAINING_SEED = 4242
"""Seed of the images on which the weights `shapes` were made, and of their training: no trial may train on them."""
_Value = TypeVar("_Value", int, float, str)
FORBID_EXTRA = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class ShapesConfig:
    """The generated data set: shapes on clutter, in COCO format. Used when `data.root` is empty."""

    __pydantic_config__ = FORBID_EXTRA

    train_images: Positive = 2000
    """Images in the training split."""
    val_images: Positive = 300
    """Images in the validation split."""
    image_size: Annotated[int, Ge(32)] = 128
    """Long side of an image, in pixels."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of the generator. It is not the trial's seed: every trial sees the same images."""


@dataclass(frozen=True)
class DataConfig:
    """Where the images are and how large they enter the network."""

    __pydantic_config__ = FORBID_EXTRA

    root: str = ""
    """Folder of a data set with COCO annotations. Empty: generate the shapes data set once and use it."""
    train_split: str = "train"
    """Training split. Its files are found in the layouts of COCO, CVAT, Roboflow, FiftyOne and Label Studio."""
    val_split: str = "val"
    """Validation split, found in the same way; Roboflow's `valid` is `val` too."""
    train_annotations: str = ""
    """Annotations file of the training split, where it is not found below `root` ..."""
    train_images: str = ""
    """... and the folder of its images."""
    val_annotations: str = ""
    """Annotations file of the validation split, where it is not found below `root` ..."""
    val_images: str = ""
    """... and the folder of its images."""
    val_fraction: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Hold out this share of the training split's images for validation, where the data set has one split."""
    val_seed: Annotated[int, Ge(0)] = 0
    """Seed of that choice. It is not the trial's seed: every trial holds out the same images."""
    short_side: Annotated[int, Ge(32)] = 800
    """Images are resized so that their short side has this many pixels ..."""
    long_side: Annotated[int, Ge(32)] = 1333
    """... unless the long side would then exceed this."""
    train_short_sides: tuple[Annotated[int, Ge(32)], ...] = ()
    """Multi-scale training: each image's short side is drawn from these. Empty: `short_side`."""
    train_long_side: Annotated[int, Ge(32)] = 1400
    """The limit of the long side in multi-scale training."""
    flip_probability: Fraction = 0.5
    """Chance of a horizontal flip in training."""
    photometric: bool = False
    """Distort brightness, contrast, saturation and hue in training, and swap channels (torchvision's
    RandomPhotometricDistort)."""
    keep_empty_images: bool = False
    """Train on images without objects too. They are left out of training, as in the paper's code base (crowds do not
    count as objects), and stay in evaluation."""
    drop_invalid: bool = False
    """Leave out broken annotations and images, in training and evaluation, where a run would else be refused."""
    shapes: ShapesConfig = field(default_factory=ShapesConfig)

    @property
    def is_given(self) -> bool:
        """Whether the data set is somebody's own, not the generated one."""
        return bool(self.root or self.train_annotations or self.val_annotations)


@dataclass(frozen=True)
class ModelConfig:
    """The detector: backbone, region proposal network and RoI heads."""

    __pydantic_config__ = FORBID_EXTRA

    name: Literal["faster_rcnn", "mask_rcnn", "cascade_rcnn", "cascade_mask_rcnn", "retinanet", "fcos"] = "faster_rcnn"
    """The detector. The cascades train at fixed IoU thresholds; RetinaNet and FCOS have no proposals."""
    module: str = ""
    """A Python file of your own whose `build_model(config, num_classes, dynamic)` builds the detector in place of the
    package's, or whose ROI_HEADS or DYNAMIC_STATE trains it by other rules (docs/own_rule.md)."""
    options: tuple[str, ...] = ()
    """Options of that file, each as NAME=VALUE; its OPTIONS says which there are."""
    backbone: Literal["tiny", "small", "resnet18", "resnet34", "resnet50", "resnet101"] = "resnet50"
    """The ResNet below the feature pyramid. `small` is `tiny` with two blocks a stage."""
    norm: Literal["frozen_batch_norm", "group_norm"] = "frozen_batch_norm"
    """Frozen batch norm goes with ImageNet's weights; group norm trains from scratch on any batch split."""
    weights: str = "imagenet"
    """Backbone weights: `none`, `imagenet` (torchvision's, downloaded once), `shapes` (for tiny and small; in the
    package) or the path of a file: a state_dict, or an .npz of the command `pretrain`."""
    detector_weights: str = ""
    """Start from a trained detector, and not from `weights`: `coco` (torchvision's, downloaded once), the path of a
    state_dict or checkpoint, or a trial of the storage: its id or the beginning of it, `last`, or best:TABLE; with
    `:best` behind it for its best checkpoint, `:500` for that of a step. What has the same shape is taken, class by
    class where the class names are known."""
    stride_in_1x1: bool = False
    """The stride of layer2 to layer4 in the first 1x1 convolution of a bottleneck, as in the paper's code base, not in
    its 3x3."""
    trainable_layers: Annotated[int, Interval(ge=0, le=5)] = 3
    """Backbone stages that train, counted from the top. 3 freezes the stem and layer1."""
    deformable: bool = False
    """Modulated deformable convolutions (DCN v2) in c3 to c5."""
    fpn_channels: Positive = 256
    """Channels of each pyramid level."""
    head_channels: Positive = 1024
    """Width of the box head's two fully connected layers (fc6, fc7)."""
    anchor_sizes: Annotated[tuple[Positive, ...], Len(5, 5)] = (32, 64, 128, 256, 512)
    """Anchor size of each of the five pyramid levels, in pixels of the resized image."""
    rpn_samples: Positive = 256
    """Anchors sampled per image for the RPN's loss."""
    rpn_pre_nms_train: Positive = 2000
    """Proposals per level kept before the RPN's NMS, in training."""
    rpn_pre_nms_test: Positive = 1000
    """Proposals per level kept before the RPN's NMS, in testing."""
    rpn_post_nms: Positive = 1000
    """Proposals per image after the RPN's NMS."""
    rpn_nms_iou: OpenFraction = 0.85
    """IoU of the RPN's NMS (Paper: Section 5.2)."""
    rois_per_image: Positive = 512
    """RoIs sampled per image for the RoI heads' loss."""
    positive_fraction: OpenFraction = 0.25
    """At most this share of the sampled RoIs is positive."""
    score_threshold: Fraction = 0.05
    """Detections below this score are dropped."""
    nms_iou: OpenFraction = 0.5
    """IoU of the final, per-class NMS."""
    detections_per_image: Positive = 100
    """At most this many detections per image."""

    @property
    def has_masks(self) -> bool:
        """Whether the detector predicts masks."""
        return self.name in ("mask_rcnn", "cascade_mask_rcnn")

    @property
    def is_cascade(self) -> bool:
        """Whether the detector has several stages."""
        return self.name in ("cascade_rcnn", "cascade_mask_rcnn")

    @property
    def is_one_stage(self) -> bool:
        """Whether the detector works without proposals."""
        return self.name in ("retinanet", "fcos")

    def option(self, name: str, defaults: Mapping[str, _Value]) -> _Value:
        """What `options` says under a name, in the type of its default; the default where it says nothing.

        Args:
            name: of the option.
            defaults: the OPTIONS of the file, numbers or texts.

        Raises:
            ValueError: the text is none of the default's type.
        """
        default = defaults[name]
        said = dict(option.split("=", 1) for option in self.options)
        return type(default)(said[name]) if name in said else default


@dataclass(frozen=True)
class TestConfig:
    """How detections are made in testing, beyond the model's own thresholds."""

    __pydantic_config__ = FORBID_EXTRA
    __test__ = False  # no test of pytest's

    soft_nms: Literal["off", "linear", "gaussian"] = "off"
    """Soft-NMS in place of the final NMS. It takes candidates from `soft_nms_min_score` on."""
    soft_nms_iou: OpenFraction = 0.5
    """Linear Soft-NMS lowers scores above this IoU."""
    soft_nms_sigma: Annotated[float, Gt(0)] = 0.5
    """Sigma of Gaussian Soft-NMS."""
    soft_nms_min_score: OpenFraction = 0.001
    """Detections below this score are dropped by Soft-NMS."""
    multi_scale: bool = False
    """Multi-scale testing: the data's own size and every short side below, each with its mirror image."""
    multi_scale_short_sides: tuple[Annotated[int, Ge(32)], ...] = (800, 1000, 1200, 1400, 1600)
    """Short sides of multi-scale testing."""
    multi_scale_long_side: Annotated[int, Ge(32)] = 2000
    """The limit of the long side in multi-scale testing."""


@dataclass(frozen=True)
class DynamicConfig:
    """Dynamic training (Paper: Section 4, Algorithm 1)."""

    __pydantic_config__ = FORBID_EXTRA

    dla: bool = True
    """Dynamic Label Assignment: the IoU threshold follows the proposals (Paper: Eq. 3)."""
    dsl: bool = True
    """Dynamic SmoothL1 Loss: beta follows the regression errors (Paper: Eq. 5)."""
    convention: Literal["paper", "mmdetection", "released"] = "paper"
    """How the two statistics are taken; only `paper` does not depend on how a batch is cut into shards."""
    all_reduce: bool = True
    """Every shard follows the records of all shards. Off: each follows its own, as in other implementations."""
    count_ground_truths: bool = True
    """The ground truths that training appends to the proposals count in I_k and E_k, as in other implementations."""
    iou_top_k: _RankOfRoIs = 75
    """K_I, per image of 512 sampled RoIs. A model that samples fewer RoIs scales it in proportion."""
    beta_top_k: _RankOfRoIs = 10
    """K_beta, per image of 512 sampled RoIs. Scaled in the same way."""
    update_interval: Positive = 100
    """C: steps between two updates of T_now and beta_now."""
    initial_iou: OpenFraction = 0.4
    """T_now before the first update, and its floor."""
    initial_beta: Annotated[float, Gt(0)] = 1.0
    """beta_now before the first update, and its ceiling."""
    fixed_iou: OpenFraction = 0.5
    """The IoU threshold while DLA is off."""
    fixed_beta: Annotated[float, Gt(0)] = 1.0
    """SmoothL1's beta while DSL is off."""


@dataclass(frozen=True)
class TrainConfig:
    """Optimiser and schedule, stated for `reference_batch` images a step."""

    __pydantic_config__ = FORBID_EXTRA

    steps: Positive = 90_000
    """Steps at the reference batch. Another global batch scales them inversely."""
    global_batch: Positive = 16
    """Images per step over all shards."""
    shards: Positive = 8
    """Parts of a global batch, 8 as the paper's GPUs. Each draws its RoIs and averages its losses for itself, and
    follows its own proposals where `dynamic` says so. Shards decide the result; the number of workers does not."""
    reference_batch: Positive = 16
    """The global batch for which steps, warm-up and learning rate are stated."""
    learning_rate: Annotated[float, Gt(0)] = 0.02
    """Learning rate at the reference batch. Another global batch scales it linearly."""
    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    """SGD's momentum."""
    weight_decay: Annotated[float, Ge(0)] = 1e-4
    """Weight decay; biases have none, and twice the learning rate."""
    warmup_steps: Annotated[int, Ge(0)] = 500
    """Steps of linear warm-up at the reference batch."""
    warmup_factor: Annotated[float, Interval(gt=0, le=1)] = 1 / 3
    """The warm-up starts at this share of the learning rate."""
    milestones: tuple[OpenFraction, ...] = (2 / 3, 8 / 9)
    """Shares of the schedule after which the learning rate falls to a tenth. The paper's 60k and 80k of 90k."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Mixed precision of the forward pass. float16 needs CUDA."""


@dataclass(frozen=True)
class RunConfig:
    """What a run needs but what does not decide its result."""

    __pydantic_config__ = FORBID_EXTRA

    num_workers: Positive = 1
    """Training workers, at most as many as shards, which are divided over them."""
    cpus_per_worker: Annotated[float, Ge(0.01)] = 1
    """CPU cores, and so threads, of each worker. Below 1, workers of one thread share a core."""
    gpu: Annotated[float, Interval(ge=0, le=1)] = 0
    """GPUs of each worker: 1, or 0 for the CPU. With a fraction such as 0.25, trials of one worker share a GPU."""
    deterministic: bool = False
    """On a GPU: the same bits each time, after a kill and a resume too, at some cost. On a CPU it is always so."""
    loader_workers: Annotated[int, Ge(0)] = 0
    """Processes per worker that load images. 0: the worker loads them itself."""
    min_workers: Annotated[int, Ge(0)] = 0
    """Elastic training: go on with as few workers as this when nodes are lost. 0: always `num_workers`."""
    max_failures: Annotated[int, Ge(0)] = 3
    """How often a trial goes on from its last checkpoint after a worker or its node was lost."""
    log_every: Positive = 20
    """Steps between two lines of progress and two rows of the recorded dynamics."""
    checkpoint_every: Positive = 500
    """Steps between two checkpoints."""
    checkpoint_minutes: Annotated[float, Ge(0)] = 0.0
    """Minutes after which the next logged step makes a checkpoint as well. 0: by steps alone."""
    keep_checkpoints: Positive = 2
    """How many of the newest checkpoints are kept."""
    record_statistics: bool = False
    """Keep every image's I_k and E_k of every step in the store."""
    evaluate_checkpoints: bool = False
    """Evaluate at every checkpoint, and keep the one with the best AP as well."""

    tensorboard: bool = False
    """Write each trial's course and AP as TensorBoard events to tensorboard/<trial_id> below the storage."""
    mlflow: str = ""
    """Where MLflow is to log configuration, course, metrics and the report: http://..., a folder, or sqlite:///FILE,
    which needs the packages sqlalchemy and alembic."""

    @property
    def is_local(self) -> bool:
        """Whether a trial trains in the process of its driver: one worker, and always one."""
        return self.num_workers == 1 and not self.min_workers

    @property
    def threads_per_worker(self) -> int:
        """As many as whole cores, at least one."""
        return max(1, int(self.cpus_per_worker))
