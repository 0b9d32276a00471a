"""``python -m mmsb.check_env``: list packages, runnable tasks and the commands for problems."""

import sys

from mmsb import ops
from mmsb.utils.environment import inspect


def main() -> int:
    """Print the table; return 0 if at least one task can run and nothing is wrong, else 1."""
    env = inspect(ops.status)
    width = max(len(name) for name, _ in env.rows)
    for name, value in env.rows:
        print(f'{name:<{width}}  {value}')
    for problem, line in env.problems:
        print(f'\nproblem: {problem}\n   type: {line}')
    if not env.problems and env.tasks:
        print(f'\nready for {", ".join(env.tasks)}')
    return 0 if env.tasks and not env.problems else 1


if __name__ == '__main__':
    sys.exit(main())
