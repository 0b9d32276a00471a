"""``python -m mmsb.check_env``: what is installed, what can run, and what to type if not."""

import sys

from mmsb import ops
from mmsb.utils.environment import inspect


def main() -> int:
    """Prints the table; 0 where at least one task can run and nothing is wrong, else 1."""
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
