"""The table of all recordings of the reference: the fixture, and the function that compares with it."""

from collections.abc import Callable

import pytest

from tests.golden import (
    align_checks,
    augment_checks,
    boxes_checks,
    camera_checks,
    data_checks,
    fusion_checks,
    import_checks,
    networks_checks,
    scenes_checks,
    sensors_checks,
    sparse_checks,
)
from tests.golden.fixture import Fixture, golden_units

Check = Callable[[Fixture], None]

# Patterns of fixture names; every file that fits is checked by all functions of the row.
TABLE: dict[str, tuple[Check, ...]] = {
    "geometry_pose_transforms*": (data_checks.check_poses,),
    "geometry_pairwise*": (data_checks.check_pairwise_transforms, networks_checks.check_normalized_affine),
    "geometry_warp*": (networks_checks.check_warp,),
    "geometry_points*": (boxes_checks.check_points,),
    "geometry_boxes*": (boxes_checks.check_boxes,),
    "geometry_iou_nms*": (boxes_checks.check_overlaps,),
    "anchors*": (boxes_checks.check_anchors,),
    "label_assign*": (boxes_checks.check_targets,),
    "loss_pyramid*": (boxes_checks.check_loss,),
    "loss_depth_baseline*": (boxes_checks.check_loss_without_pyramid,),
    "decode_postprocess*": (boxes_checks.check_decode,),
    "ap_eval*": (boxes_checks.check_average_precision,),
    "gt_merge*": (data_checks.check_merging,),
    "object_projection*": (data_checks.check_objects_of_opv2v, data_checks.check_objects_of_dair),
    "camera_extrinsics*": (data_checks.check_camera_extrinsics,),
    "pose_noise*": (data_checks.check_pose_noise,),
    "mini_dataset*": (
        scenes_checks.check_agents_of_scenes,
        scenes_checks.check_ground_truth_of_scenes,
        scenes_checks.check_labels_of_single_agents,
        scenes_checks.check_targets_of_scenes,
        sensors_checks.check_clouds_of_scenes,
        sensors_checks.check_cameras_of_scenes,
    ),
    "augment_lidar*": (augment_checks.check_lidar_augmentation,),
    "camera_geometry_utils*": (
        camera_checks.check_image_transforms,
        camera_checks.check_camera_grids,
        camera_checks.check_depth_bins,
    ),
    "voxelize_lidar*": (networks_checks.check_voxelize,),
    "pillar_vfe_scatter*": (networks_checks.check_point_pillars,),
    "second_encoder*": (sparse_checks.check_second,),
    "lss_*": (camera_checks.check_lift_splat,),
    "aligner_*": (align_checks.check_aligner,),
    "naive_compressor*": (align_checks.check_compressor,),
    "backbone_resnet_*": (networks_checks.check_backbone,),
    "backbone_base_multi*": (networks_checks.check_plain_backbone,),
    "fusion_max*": (fusion_checks.check_maximum,),
    "fusion_att*": (fusion_checks.check_attention,),
    "fusion_v2vnet*": (fusion_checks.check_v2vnet,),
    "fusion_disco*": (fusion_checks.check_disconet,),
    "fusion_cobevt*": (fusion_checks.check_cobevt,),
    "fusion_v2xvit*": (fusion_checks.check_v2xvit,),
    "pyramid_fusion_*": (networks_checks.check_pyramid_fusion,),
    "shrink_header*": (networks_checks.check_shrink,),
    "model_collab_*": (import_checks.check_collab,),
    "model_single_*": (import_checks.check_single,),
}

CASES = [
    pytest.param(*unit.values, check, id=f"{unit.id}-{check.__name__.removeprefix('check_')}", marks=unit.marks)
    for pattern, checks in TABLE.items()
    for unit in golden_units(pattern)
    for check in checks
]


@pytest.mark.parametrize(("fixture", "check"), CASES)
def test_equals_the_reference(fixture: Fixture, check: Check) -> None:
    check(fixture)
