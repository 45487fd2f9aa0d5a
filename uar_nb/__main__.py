"`python -m uar_nb` is the command `uar`."

from .apps.cli import main

if __name__ == '__main__':
    main()
