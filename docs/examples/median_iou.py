"""T_now follows the median of S_I, not its mean."""

from torch import Tensor

from dynrcnn_ray.dynamic.state import DynamicTrainingState, median_of_valid


class MedianIoU(DynamicTrainingState):
    def next_iou(self, ious: Tensor, valid: Tensor, iou_now: Tensor) -> Tensor:
        return median_of_valid(ious, valid, upper=False).clamp(min=self.config.initial_iou)


DYNAMIC_STATE = MedianIoU
