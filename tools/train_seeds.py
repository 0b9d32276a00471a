"""Train configs with several seeds: python tools/train_seeds.py CONFIG [--seeds 0 1 2]."""

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

from mmsb.analysis.reports.seeds import seed_table
from mmsb.engine import report_user_errors
from mmsb.engine.arguments import parse_seeds_args
from mmsb.engine.seeds import finished_runs, train_seeds
from mmsb.utils.errors import UserError
from mmsb.utils.files import replacing


@report_user_errors
def main():
    args = parse_seeds_args()
    if args.out and not args.out.endswith('.json'):
        raise UserError(f'--out {args.out}: metrics are written as NAME.json')
    if args.summarize and args.out:
        raise UserError('--summarize writes no file: leave --out or --summarize out')
    if args.baseline and Path(args.baseline).stem not in [Path(c).stem for c in args.configs]:
        raise UserError(f'--baseline {args.baseline} is not one of the configs')
    if args.summarize:
        runs = finished_runs(args.configs, args.seeds, args.work_dir)
    else:
        tools = Path(__file__).resolve().parent
        with redirect_stdout(sys.stderr):  # stdout is for the table
            runs = train_seeds(
                args.configs, args.seeds, args.work_dir, tools, args.processes, args.flags,
                args.jobs, args.slurm,
            )  # fmt: skip
    if args.out:
        with replacing(args.out) as part:
            part.write_text(json.dumps(dict(runs=runs), indent=1) + '\n')
    print(seed_table(runs, args.baseline or args.configs[0]), end='')


if __name__ == '__main__':
    main()
