"""The names of the baselines' recipes, and the reference's configuration of each."""

from __future__ import annotations

# By the recipes' name of a method: the kind of its fusion.
METHODS = {
    "fcooper": "f_cooper",
    "attfuse": "attfuse",
    "v2vnet": "v2vnet",
    "disconet": "disconet",
    "coalign": "coalign",
    "cobevt": "cobevt",
    "v2xvit": "v2xvit",
}
# By data set and sensors of the recipes: the reference's folder and file, and the methods that it has no recipe for.
_FILES = {
    "opv2v/baselines/lidar": ("opv2v__LiDAROnly__lidar", ()),
    "opv2v/baselines/camera": ("opv2v__CameraOnly__camera", ()),
    "opv2v/baselines/joint_m1m2": ("opv2v__2_modality_end2end_training__lidar_camera", ()),
    "opv2v/baselines/joint_m1m2m3": ("opv2v__3_modality_end2end_training__m1m2m3", ("v2vnet",)),
    "opv2v/baselines/joint_m1m2m3m4": ("opv2v__4_modality_end2end_training__m1m2m3m4", ("v2vnet",)),
    "dair/baselines/lidar": ("dairv2x__LiDAROnly__lidar", ("v2vnet",)),
    "dair/baselines/camera": ("dairv2x__CameraOnly__camera", ("v2vnet",)),
    "dair/baselines/joint_m1m2": ("dairv2x__2_modality_end2end_training__lidar_camera", ("v2vnet",)),
    "v2xset/baselines/lidar": ("v2xset__LiDAROnly__lidar", ("v2vnet",)),
    "v2xset/baselines/camera": ("v2xset__CameraOnly__camera", tuple(name for name in METHODS if name != "coalign")),
}


def _listing(start: str, method: str) -> str:
    """Return the name of a listing: DiscoNet is called disco with one or two types."""
    return f"{start}_{'disco' if method == 'disconet' and 'm1m2m3' not in start else method}"


# The reference's configuration of each recipe: `state_dict` in the golden fixtures names its listing so.
BASELINES = {
    f"{ours}_{method}": _listing(start, method)
    for ours, (start, without) in _FILES.items()
    for method in METHODS
    if method not in without
}
