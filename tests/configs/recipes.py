"""The names of the recipes, and the reference's configuration of each."""

from __future__ import annotations

from heal.config import build_config
from heal.tools.shared.paths import CONFIGS
from heal.tools.shared.setting_files import load_settings
from heal.training.config import TrainingConfig

# The reference's configuration of each recipe: `state_dict` in the golden fixtures names its listing so.
REFERENCES = {
    "opv2v/camera_only": "opv2v__CameraOnly__camera_pyramid",
    "opv2v/lidar_only": "opv2v__LiDAROnly__lidar_pyramid",
    "opv2v/joint_m1m2": "opv2v__2_modality_end2end_training__lidar_camera_pyramid",
    "opv2v/joint_m1m2m3": "opv2v__3_modality_end2end_training__m1m2m3_pyramid",
    "opv2v/joint_m1m2m3m4": "opv2v__4_modality_end2end_training__m1m2m3m4_pyramid",
    **{f"opv2v/stage1_m{i}": f"opv2v__HEAL__stage1__m{i}_pyramid" for i in range(1, 5)},
    **{f"opv2v/stage2_m{i}": f"opv2v__HEAL__stage2__m{i}_single_pyramid" for i in range(1, 5)},
    "opv2v/final_m1m2m3m4": "opv2v__HEAL__final_infer__m1m2m3m4",
    "dair/camera_only": "dairv2x__CameraOnly__camera_pyramid",
    "dair/lidar_only": "dairv2x__LiDAROnly__lidar_pyramid",
    "dair/joint_m1m2": "dairv2x__2_modality_end2end_training__lidar_camera_pyramid",
    "dair/stage1_m1": "dairv2x__HEAL__stage1__m1_pyramid",
    **{f"dair/stage2_m{i}": f"dairv2x__HEAL__stage2__m{i}_single_pyramid" for i in range(2, 5)},
    "dair/final_m1m2": "dairv2x__HEAL__final_infer__m1m2",
    "v2xset/camera_only": "v2xset__CameraOnly__camera_pyramid",
    "v2xset/lidar_only": "v2xset__LiDAROnly__lidar_pyramid",
    "v2xset/stage1_m1": "v2xset__HEAL__stage1__m1_pyramid",
    **{f"v2xset/stage2_m{i}": f"v2xset__HEAL__stage2__m{i}_single_pyramid" for i in range(2, 5)},
    "v2xset/final_m1m2m3m4": "v2xset__HEAL__final_infer__m1m2m3m4",
}


def recipe(name: str) -> TrainingConfig:
    """Return the settings of a recipe such as "dair/stage1_m1"."""
    return build_config(TrainingConfig, load_settings(CONFIGS / "recipes" / f"{name}.yaml"))
