"""Prepare a trained checkpoint for publication: no training state, a hash in the name."""

import argparse

from mmsb.checkpoints.model_folder import publish_to_hub
from mmsb.checkpoints.publishing import FORMATS, publish_checkpoint
from mmsb.engine import report_user_errors
from mmsb.utils.errors import UserError


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('source', metavar='IN', help='checkpoint from training')
    add(
        'target',
        metavar='OUT',
        help='NAME.pth or NAME.safetensors; NAME-<hash> is written; with --to-hub a new folder',
    )
    add('--format', choices=FORMATS, help='the format of the weights; default the ending of OUT')
    add('--force', action='store_true', help='overwrite an existing file')
    hub = parser.add_argument_group('Hugging Face Hub')
    add = hub.add_argument
    add(
        '--to-hub',
        metavar='OWNER/NAME',
        help='write weights, configs and a model card to the folder OUT, and upload it',
    )
    add('--dry-run', action='store_true', help='write the folder, but do not upload it')
    add('--metrics', metavar='FILE.json', help='metrics for the card, from test --metrics-out')
    add('--license', metavar='ID', help="the weights' licence for the card, e.g. apache-2.0")
    args = parser.parse_args()
    given = [name for name in ('dry_run', 'metrics', 'license') if getattr(args, name)]
    if given and not args.to_hub:
        raise UserError(f'--{given[0].replace("_", "-")} belongs to --to-hub: give that too')
    return args


@report_user_errors
def main():
    args = parse_args()
    if args.to_hub:
        publish_to_hub(
            args.source, args.target, args.to_hub, args.metrics, args.license,
            args.format or 'pth', args.dry_run,
        )  # fmt: skip
    else:
        print(publish_checkpoint(args.source, args.target, args.force, print, args.format))


if __name__ == '__main__':
    main()
