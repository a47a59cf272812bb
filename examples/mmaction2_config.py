# For mmaction2 1.x: python tools/train.py mmaction2_config.py, from its configs/skeleton/stgcn.
_base_ = "../../_base_/default_runtime.py"

custom_imports = dict(imports=["slim_fast.interop.mmaction2"])  # slim_fast
model = dict(
    type="RecognizerGCN",
    backbone=dict(
        type="SLiM",  # slim_fast
        pretrained="runs/ntu60",  # slim_fast
        graph_cfg=dict(layout="nturgb+d", mode="stgcn_spatial"),
    ),
    cls_head=dict(type="GCNHead", num_classes=60, in_channels=256),
)

dataset = dict(type="PoseDataset", ann_file="data/skeleton/ntu60_3d.pkl")
pipeline = [
    dict(type="PreNormalize3D", align_spine=False),
    dict(type="GenSkeFeat", dataset="nturgb+d", feats=["j"]),
    dict(type="UniformSampleFrames", clip_len=64),
    dict(type="PoseDecode"),
    dict(type="FormatGCNInput", num_person=2),
    dict(type="PackActionInputs"),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(**dataset, pipeline=pipeline, split="xsub_train"),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**dataset, pipeline=pipeline, split="xsub_val", test_mode=True),
)
test_dataloader = val_dataloader
val_evaluator = [dict(type="AccMetric")]
test_evaluator = val_evaluator

train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=16, val_begin=1, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
param_scheduler = [
    dict(type="CosineAnnealingLR", eta_min=0, T_max=16, by_epoch=True, convert_to_iter_based=True)
]
# Not part of the swap: graph networks are trained with SGD at 0.1, transformers are not.
optim_wrapper = dict(optimizer=dict(type="AdamW", lr=5e-4, weight_decay=0.05))
