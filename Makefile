# make demo | test | lint | smoke; each sets up what it needs. STACK=openmmlab: OpenMMLab's releases.
STACK ?= onedl
ifeq ($(STACK),openmmlab)
VENV := .venv-openmmlab
else
VENV := .venv
endif
BIN := $(VENV)/bin
COCO := data/mini_coco
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
	MMSB_COCO_ROOT=work_dirs/smoke/coco tools/dist_train.sh \
	  configs/mini/faster_rcnn_sb_r18_fpn_mini_coco.py 2 --work-dir work_dirs/smoke/sb \
	  --cfg-options train_cfg.max_epochs=1 train_cfg.val_interval=1 default_hooks.logger.interval=1

demo: setup
	$(BIN)/python tools/demo.py
