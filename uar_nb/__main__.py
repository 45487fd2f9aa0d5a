"`uar` and `python -m uar_nb`. What takes time is imported inside, so that Ctrl-C then is tidy too."

import sys

from uar_nb.show.terminal import end_process


def run():
    "The command that the process was started with."
    from uar_nb.apps.cli import run_command

    return run_command(sys.argv[1:])


def main():
    "The entry point of the program `uar`."
    end_process(run)


if __name__ == '__main__':
    main()
