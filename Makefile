# make demo | test | lint | smoke; each sets up what it needs. STACK=openmmlab: OpenMMLab's releases.
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
export STACK

.PHONY: help setup test lint smoke demo

help:
	@echo 'make demo    draw a miniature COCO, train SB Faster R-CNN on 2 processes, report its AP'
	@echo 'make test    the test suite'
	@echo 'make lint    ruff, lint and format'
	@echo 'make smoke   a short training on 2 processes'
	@echo 'STACK=openmmlab make ...  with the original OpenMMLab releases'

setup:
	@tools/setup_env.sh $(STACK)

test: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal tests

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

smoke: setup
	$(BIN)/python tools/dataset_tools/make_mini_coco.py work_dirs/smoke/coco --train 16 --val 4
	PYTHON=$(BIN)/python MMSB_COCO_ROOT=work_dirs/smoke/coco tools/dist_train.sh \
	  configs/mini/faster_rcnn_sb_r18_fpn_mini_coco.py 2 --work-dir work_dirs/smoke/sb \
	  --cfg-options train_cfg.max_epochs=1 train_cfg.val_interval=1 default_hooks.logger.interval=1

# One run of the demo: $(call demo_run,NAME,CONFIG)
define demo_run
rm -rf $(DEMO)/$(1)
PYTHON=$(BIN)/python tools/dist_train.sh $(2) 2 --work-dir $(DEMO)/$(1) --seed $(SEED) $(DEMO_ARGS)
PYTHON=$(BIN)/python tools/dist_test.sh $(2) $$(cat $(DEMO)/$(1)/last_checkpoint) 2 --work-dir $(DEMO)/$(1) \
  --out $(DEMO)/$(1)/predictions.pkl --metrics-out $(DEMO)/$(1)/metrics.json
endef

demo: export MMSB_COCO_ROOT := $(COCO)
demo: setup
	$(BIN)/python tools/dataset_tools/make_mini_coco.py $(COCO) $(DRAW_ARGS)
	$(call demo_run,sb,configs/mini/faster_rcnn_sb_r18_fpn_mini_coco.py)
	$(call demo_run,plain,configs/mini/faster_rcnn_r18_fpn_mini_coco.py)
	$(BIN)/python tools/analysis_tools/detection_report.py $(DEMO) \
	  --run SB-ResNet=$(DEMO)/sb --run ResNet=$(DEMO)/plain
