# make demo | chain | test | lint | smoke | matrix | docs; each sets up what it needs. STACK=openmmlab: OpenMMLab's releases.
STACK ?= onedl
ifeq ($(STACK),openmmlab)
VENV := .venv-openmmlab
else
VENV := .venv
endif
BIN := $(VENV)/bin
# For make demo; a quick look: DRAW_ARGS='--train 8 --val 4' DEMO_ARGS='--cfg-options train_cfg.max_epochs=1'
COCO := data/mini_coco
DEMO := work_dirs/demo
SEED := 0
PROCESSES := 2
# For make chain: shorter trainings than the configs', to be through in a quarter of an hour.
DATA := data
CHAIN := work_dirs/chain
CHAIN_DET_ARGS := --cfg-options train_cfg.max_epochs=8 param_scheduler.1.T_max=8
CHAIN_SEG_ARGS := --cfg-options train_cfg.max_iters=300 param_scheduler.1.end=300 train_cfg.val_interval=100
export STACK

.PHONY: help setup test lint smoke demo chain matrix docs

help:
	@echo 'make demo    make a miniature COCO, train SB Faster R-CNN on 2 processes, report its AP'
	@echo 'make chain   pretrain, publish, fine-tune, evaluate: classification, detection, segmentation'
	@echo 'make test    the test suite'
	@echo 'make lint    ruff, lint and format'
	@echo 'make smoke   a short training on 2 processes'
	@echo 'make matrix  short tests on other versions of Python and PyTorch: a table'
	@echo 'make docs    the documentation site, site/index.html; warnings and broken links fail'
	@echo 'STACK=openmmlab make ...  with the original OpenMMLab releases'

setup:
	@tools/setup_env.sh $(STACK)

test: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal tests

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

matrix:
	@tools/matrix.sh $(MATRIX)

docs:
	@tools/setup_env.sh docs
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict
	@echo site/index.html

smoke: setup
	$(BIN)/python tools/dataset_tools/make_mini_coco.py work_dirs/smoke/coco --train 16 --val 4
	PYTHON=$(BIN)/python MMSB_COCO_ROOT=work_dirs/smoke/coco tools/dist_train.sh \
	  configs/mini/faster_rcnn_sb_r18_fpn_mini_coco.py 2 --work-dir work_dirs/smoke/sb \
	  --cfg-options train_cfg.max_epochs=1 train_cfg.val_interval=1 default_hooks.logger.interval=1

# Trains and tests: $(call run,WORK_DIR,CONFIG,TRAIN_ARGS,TEST_ARGS,ENVIRONMENT)
define run
rm -rf $(1)
$(5) PYTHON=$(BIN)/python tools/dist_train.sh $(2) $(PROCESSES) --work-dir $(1) --seed $(SEED) $(3)
PYTHON=$(BIN)/python tools/dist_test.sh $(2) $(1)/$$(cat $(1)/last_checkpoint) $(PROCESSES) --work-dir $(1) \
  --metrics-out $(1)/metrics.json $(4)
endef
demo_run = $(call run,$(DEMO)/$(1),$(2),$(DEMO_ARGS),--out $(DEMO)/$(1)/predictions.pkl)

demo: export MMSB_COCO_ROOT := $(COCO)
demo: setup
	$(BIN)/python tools/dataset_tools/make_mini_coco.py $(COCO) $(DRAW_ARGS)
	$(call demo_run,sb,configs/mini/faster_rcnn_sb_r18_fpn_mini_coco.py)
	$(call demo_run,plain,configs/mini/faster_rcnn_r18_fpn_mini_coco.py)
	$(BIN)/python tools/analysis_tools/detection_report.py $(DEMO) \
	  --run SB-ResNet=$(DEMO)/sb --run ResNet=$(DEMO)/plain

# What published files are called ends in their hash.
PUBLISHED = MMSB_RESNET18="$$(ls $(CHAIN)/resnet18-*.pth)" MMSB_SB_RESNET18="$$(ls $(CHAIN)/sb_resnet18-*.pth)"
# One run of the chain: $(call chain_run,TASK/NAME,CONFIG,ARGS,ENVIRONMENT)
chain_run = $(call run,$(CHAIN)/$(1),$(2),$(3),--show-dir $(CHAIN)/$(1)/drawn --interval 4,$(4))
# Publishes what a run left: $(call chain_publish,RUN,NAME)
define chain_publish
rm -f $(CHAIN)/$(2)-*.pth
$(BIN)/python tools/model_converters/publish_model.py $(CHAIN)/$(1)/$$(cat $(CHAIN)/$(1)/last_checkpoint) $(CHAIN)/$(2).pth
endef

chain: export MMSB_IMAGENET_ROOT := $(DATA)/mini_imagenet
chain: export MMSB_COCO_ROOT := $(DATA)/mini_coco
chain: export MMSB_ADE20K_ROOT := $(DATA)/mini_ade20k
chain: setup
	$(BIN)/python tools/dataset_tools/make_mini_imagenet.py $(MMSB_IMAGENET_ROOT) $(CHAIN_IN_ARGS)
	$(BIN)/python tools/dataset_tools/make_mini_coco.py $(MMSB_COCO_ROOT) $(CHAIN_DRAW_ARGS)
	$(BIN)/python tools/dataset_tools/make_mini_ade20k.py $(MMSB_ADE20K_ROOT) $(CHAIN_DRAW_ARGS)
	$(call chain_run,classification/resnet,configs/mini/resnet18_mini_in1k.py,$(CHAIN_CLS_ARGS))
	$(call chain_publish,classification/resnet,resnet18)
	$(call chain_run,classification/sb,configs/mini/sb_resnet18_mini_in1k.py,$(CHAIN_CLS_ARGS))
	$(call chain_publish,classification/sb,sb_resnet18)
	$(call chain_run,detection/scratch,configs/mini/faster_rcnn_sb_r18_fpn_mini_coco.py,$(CHAIN_DET_ARGS))
	$(call chain_run,detection/pretrained,configs/mini/faster_rcnn_sb_r18-pretrained_fpn_mini_coco.py,$(CHAIN_DET_ARGS),$(PUBLISHED))
	$(call chain_run,detection/grow,configs/mini/faster_rcnn_sb_r18-grow_fpn_mini_coco.py,$(CHAIN_DET_ARGS),$(PUBLISHED))
	$(call chain_run,segmentation/scratch,configs/mini/fpn_sb_r18_mini_ade20k.py,$(CHAIN_SEG_ARGS))
	$(call chain_run,segmentation/pretrained,configs/mini/fpn_sb_r18-pretrained_mini_ade20k.py,$(CHAIN_SEG_ARGS),$(PUBLISHED))
	$(call chain_run,segmentation/grow,configs/mini/fpn_sb_r18-grow_mini_ade20k.py,$(CHAIN_SEG_ARGS),$(PUBLISHED))
	$(BIN)/python tools/analysis_tools/chain_report.py $(CHAIN) $(CHAIN)
