"""mmcv's own NMS and RoIAlign, compiled from its sources; of the other operators the names alone.

A copy of this file goes into the sources of mmcv (docs/benchmarks.md); nothing here imports it.
"""

from pathlib import Path
from typing import Any

from torch.utils.cpp_extension import load_inline

_SOURCES = Path(__file__).parent / "ops/csrc"
_FILES = ("pytorch/nms.cpp", "pytorch/cpu/nms.cpp", "pytorch/roi_align.cpp", "pytorch/cpu/roi_align.cpp")
_SIZES = 'py::arg("aligned_height"), py::arg("aligned_width"), py::arg("spatial_scale"), py::arg("sampling_ratio")'
_BOUND = f"""
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {{
  m.def("nms", &nms, py::arg("boxes"), py::arg("scores"), py::arg("iou_threshold"), py::arg("offset"));
  m.def("roi_align_forward", &roi_align_forward, py::arg("input"), py::arg("rois"), py::arg("output"),
        py::arg("argmax_y"), py::arg("argmax_x"), {_SIZES}, py::arg("pool_mode"), py::arg("aligned"));
  m.def("roi_align_backward", &roi_align_backward, py::arg("grad_output"), py::arg("rois"), py::arg("argmax_y"),
        py::arg("argmax_x"), py::arg("grad_input"), {_SIZES}, py::arg("pool_mode"), py::arg("aligned"));
}}
"""
_compiled = load_inline(
    "mmcv_two_operators",
    "".join(f'#include "{_SOURCES / file}"\n' for file in _FILES) + _BOUND,
    extra_include_paths=[str(_SOURCES / "common"), str(_SOURCES / "pytorch")],
)


def __getattr__(name: str) -> Any:
    """An operator; None for those that are not compiled."""
    return getattr(_compiled, name, None)
