"""The metrics of a trial, by the names that tables and files give them."""

METRICS = ("AP", "AP50", "AP60", "AP70", "AP75", "AP80", "AP90", "AP_S", "AP_M", "AP_L", "AR1", "AR10", "AR100")
"""COCO AP over IoU 0.50:0.95, at single IoUs, and for small, medium and large objects; AR over the same IoUs with at
most 1, 10 and 100 detections of an image and category. In percent. Rows of before version 6 have no AR."""
MASK_METRICS = tuple(f"segm_{metric}" for metric in METRICS)
"""The same of the masks, where a model predicts them."""
