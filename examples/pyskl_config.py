# For PYSKL: bash tools/dist_train.sh pyskl_config.py 8 --validate
custom_imports = dict(imports=["slim_fast.interop.pyskl"])  # slim_fast
model = dict(
    type="RecognizerGCN",
    backbone=dict(
        type="SLiM",  # slim_fast
        pretrained="runs/ntu60",  # slim_fast
        graph_cfg=dict(layout="nturgb+d", mode="spatial"),
    ),
    cls_head=dict(type="GCNHead", num_classes=60, in_channels=256),
)

dataset_type = "PoseDataset"
ann_file = "data/nturgbd/ntu60_3danno.pkl"

train_pipeline = [
    dict(type="PreNormalize3D", align_spine=False),
    dict(type="GenSkeFeat", dataset="nturgb+d", feats=["j"]),
    dict(type="UniformSample", clip_len=64),
    dict(type="PoseDecode"),
    dict(type="FormatGCNInput", num_person=2),
    dict(type="Collect", keys=["keypoint", "label"], meta_keys=[]),
    dict(type="ToTensor", keys=["keypoint"]),
]
test_pipeline = [
    dict(type="PreNormalize3D", align_spine=False),
    dict(type="GenSkeFeat", dataset="nturgb+d", feats=["j"]),
    dict(type="UniformSample", clip_len=64, num_clips=1),
    dict(type="PoseDecode"),
    dict(type="FormatGCNInput", num_person=2),
    dict(type="Collect", keys=["keypoint", "label"], meta_keys=[]),
    dict(type="ToTensor", keys=["keypoint"]),
]
data = dict(
    videos_per_gpu=16,
    workers_per_gpu=2,
    train=dict(type=dataset_type, ann_file=ann_file, pipeline=train_pipeline, split="xsub_train"),
    val=dict(type=dataset_type, ann_file=ann_file, pipeline=test_pipeline, split="xsub_val"),
    test=dict(type=dataset_type, ann_file=ann_file, pipeline=test_pipeline, split="xsub_val"),
)

# Not part of the swap: graph networks are trained with SGD at 0.1, transformers are not.
optimizer = dict(type="AdamW", lr=5e-4, weight_decay=0.05)
optimizer_config = dict(grad_clip=None)
lr_config = dict(policy="CosineAnnealing", min_lr=0, by_epoch=False)
total_epochs = 16
checkpoint_config = dict(interval=1)
evaluation = dict(interval=1, metrics=["top_k_accuracy"])
log_config = dict(interval=100, hooks=[dict(type="TextLoggerHook")])
log_level = "INFO"
work_dir = "./work_dirs/slim"
