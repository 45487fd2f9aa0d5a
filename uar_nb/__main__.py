"`python -m uar_nb` is the command `uar`."
from .cli import main

if __name__ == '__main__': main()
